//! As much HTTP as Kafka Connect's REST interface needs.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and JSON of the answer.
pub async fn ask(port: u16, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    // Chunked or not: the JSON is from the first brace or bracket of the body on.
    let body = answer.split_once("\r\n\r\n")?.1;
    let start = body.find(['{', '[']).unwrap_or(body.len());
    let mut values = serde_json::Deserializer::from_str(&body[start..]).into_iter::<Value>();
    Some((status, values.next().and_then(Result::ok).unwrap_or_default()))
}
