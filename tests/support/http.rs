//! Questions to a process that serves health and metrics.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(90);

/// A port of 127.0.0.1 that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Http(pub u16);

impl Http {
    /// A port that nobody listens on yet.
    pub fn free() -> Http {
        Http(super::postgres::free_port())
    }

    /// For `--http`.
    pub fn address(self) -> String {
        format!("127.0.0.1:{}", self.0)
    }

    /// Status and body; None when nobody listens.
    pub async fn ask(self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.0)).await.ok()?;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).expect("the answer is text");
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        super::canary::expect_none(path, body);
        Some((status, body.to_owned()))
    }

    pub async fn get(self, path: &str) -> Option<(u16, String)> {
        self.ask("GET", path).await
    }

    /// Waits until `/readyz` answers so, and returns its line.
    pub async fn wait_ready(self, status: u16) -> String {
        self.wait_for("/readyz", |found, _| found == status).await
    }

    /// Waits until the page is as wanted, and returns it.
    pub async fn wait_for(self, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.get(path).await;
            if let Some((status, body)) = &last
                && wanted(*status, body)
            {
                return body.clone();
            }
            assert!(Instant::now() < deadline, "{path} is still {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn metrics(self) -> Vec<Sample> {
        samples(&self.get("/metrics").await.expect("it listens").1)
    }
}

/// One line of Prometheus' text format.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// Reads the format strictly: whatever is no comment, blank or sample is an error, and so is a sample without its TYPE.
pub fn samples(page: &str) -> Vec<Sample> {
    let mut types = Vec::new();
    let mut all = Vec::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(rest) = comment.strip_prefix("TYPE ") {
                types.push(rest.split(' ').next().unwrap_or_default().to_owned());
            } else {
                assert!(comment.starts_with("HELP "), "{line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, rest)) => (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("open: {line}"))),
        };
        assert!(types.iter().any(|known| known == name), "no TYPE before {line}");
        let labels = labels.split_terminator("\",").map(|label| {
            let (label, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            (label.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        all.push(Sample { name: name.to_owned(), labels: labels.collect(), value });
    }
    all
}

/// The value of the one series of this name with this label (`""`: whatever labels it has).
pub fn value(samples: &[Sample], name: &str, label: &str) -> Option<f64> {
    let found = samples.iter().find(|sample| {
        sample.name == name && (label.is_empty() || sample.labels.iter().any(|(_, value)| value == label))
    });
    found.map(|sample| sample.value)
}
