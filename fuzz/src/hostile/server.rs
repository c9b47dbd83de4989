//! A server that says anything at all.
//!
//! The client is the real one, over a Unix socket. What it sends is read and thrown away; all answers are written at once.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use pg::params::Environment;
use pg::wire::{CopyOut, Wire};
use pg::{Lsn, Params, Purpose, Result};
use reader::replication::{ReplicationConnection, StartOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// A length that lies must not cost memory: such a message is as long as it really is.
const TOO_LONG: Duration = Duration::from_secs(10);

struct Place {
    runtime: Runtime,
    listener: UnixListener,
    params: Params,
    folder: PathBuf,
}

impl Place {
    fn new() -> Place {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let thread = format!("{:?}", std::thread::current().id());
        let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
        let folder = std::env::temp_dir().join(format!("walferry-hostile.{}.{digits}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(folder.join(".s.PGSQL.5432")).expect("the socket is free")
        };
        let text =
            format!("host={} dbname=d password=x require_auth=md5,scram-sha-256,none", folder.display());
        let params = Params::parse_with(&text, &Environment::of(&[], None, "me")).expect("it is well formed");
        Place { runtime, listener, params, folder }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A start-up as it should be, and the answer to the settings that follow it.
fn welcome() -> Vec<u8> {
    [
        message(b'R', &0_u32.to_be_bytes()),
        message(b'S', b"server_version\x0015.8\0"),
        message(b'S', b"server_encoding\0UTF8\0"),
        message(b'S', b"integer_datetimes\0on\0"),
        message(b'K', b"12345678"),
        message(b'Z', b"I"),
        message(b'C', b"SET\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Lets the client meet a server that answers with these bytes, whatever it is asked.
fn meet(answer: &[u8], client: impl AsyncFnOnce(&Params) -> Result<()>) {
    PLACE.with_borrow_mut(|place| {
        let Place { runtime, listener, params, .. } = place.get_or_insert_with(Place::new);
        runtime.block_on(async {
            let server = async {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                // The start-up message comes first: an answer that is there before it would be a broken pipe.
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                // Until the client is gone.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            let both = async { tokio::join!(server, client(params)) };
            // An error is what most of these servers deserve.
            let ((), _outcome) = tokio::time::timeout(TOO_LONG, both)
                .await
                .expect("the client has waited for a server that is gone");
        });
    });
}

/// Start-up and simple queries.
pub fn wire(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let answer = if kind % 2 == 0 { bytes.to_vec() } else { [welcome(), bytes.to_vec()].concat() };
    meet(&answer, async |params| {
        let mut wire = Wire::connect(params, Purpose::Query, "walferry", false).await?;
        wire.simple("SELECT 1").await?;
        wire.simple("SELECT 2").await?;
        Ok(())
    });
}

/// `COPY … TO STDOUT`, in whole messages or in parts.
pub fn copy(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let begin = message(b'H', &[0; 3]);
    let begin = if kind & 2 == 0 { begin } else { Vec::new() };
    meet(&[welcome(), begin, bytes.to_vec()].concat(), async |params| {
        let mut wire = Wire::connect(params, Purpose::Query, "walferry", false).await?;
        wire.copy_out("COPY t TO STDOUT").await?;
        loop {
            let out =
                if kind % 2 == 0 { wire.recv_copy_chunk().await? } else { wire.recv_copy_part().await? };
            match out {
                CopyOut::Data(chunk) if kind % 2 == 0 => {
                    assert_eq!(chunk.payloads().count() as u64, chunk.frames);
                    assert_eq!(
                        chunk.payloads().map(|one| one.len() as u64).sum::<u64>(),
                        chunk.payload_bytes()
                    );
                }
                CopyOut::Data(_) => {}
                CopyOut::Done => return wire.copy_out_end().await.map(|_| ()),
            }
        }
    });
}

/// `START_REPLICATION`, and the decoder behind it.
pub fn replication(data: &[u8]) {
    let answer = [welcome(), message(b'W', &[0; 3]), data.to_vec()].concat();
    meet(&answer, async |params| {
        let connection = ReplicationConnection::connect(params, "walferry").await?;
        let options = StartOptions { publications: vec!["p".to_owned()], messages: true, binary: true };
        let mut stream = connection.start("s", Lsn::ZERO, &options).await?;
        let mut decoder = reader::pgoutput::Decoder::new();
        while let Some(message) = stream.recv().await? {
            if let reader::replication::ReplicationMessage::XLogData(body) = message {
                decoder.decode(body.data)?;
            }
        }
        Ok(())
    });
}
