//! A server that says anything at all gets an error, never a panic and never a lot of memory.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::{DataRow, Frame, Wire};
use crate::params::Environment;
use crate::{Params, Purpose};

/// Pieces of which a plausible beginning is made.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let message = |tag: u8, body: &[u8]| {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag][..], &length, body].concat()
    };
    prop_oneof![
        Just(message(b'R', &0_i32.to_be_bytes())),
        Just(message(b'R', b"\0\0\0\x05salt")),
        Just(message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")),
        Just(message(b'R', b"\0\0\0\x0br=x,s=y,i=1")),
        Just(message(b'R', b"\0\0\0\x0cv=x")),
        Just(message(b'S', b"server_version\x0015.1\0")),
        Just(message(b'S', b"server_version")),
        Just(message(b'K', b"12345678")),
        Just(message(b'K', b"1")),
        Just(message(b'E', b"SFATAL\0C28000\0Mno\0\0")),
        Just(message(b'E', b"C\0M")),
        Just(message(b'Z', b"")),
        Just(b"D\xff\xff\xff\xff".to_vec()),
        Just(b"D\0\0\0\0".to_vec()),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(move |(tag, body)| message(tag, &body)),
        prop::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_answer_to_a_start_up_is_survived(pieces in prop::collection::vec(piece(), 0..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = std::env::temp_dir().join(format!("walferry-wire.{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join(".s.PGSQL.5432");
        let _ = std::fs::remove_file(&socket);
        runtime.block_on(async {
            let listener = UnixListener::bind(&socket).unwrap();
            let answer = pieces.concat();
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
                // Until the client has seen the end.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            let text = format!("host={} password=x require_auth=md5,scram-sha-256,none", folder.display());
            let params = Params::parse_with(&text, &Environment::of(&[], None, "me")).unwrap();
            let client = Wire::connect(&params, Purpose::Query, "walferry", false);
            let both = async { tokio::join!(server, async { client.await.is_err() }) };
            let ((), failed) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
            assert!(failed);
        });
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn any_body_can_be_looked_at(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..60)) {
        let frame = Frame { tag, body: body.into() };
        let _ = (frame.error(), frame.notice(), frame.parameter(), frame.affected_rows());
        let _ = DataRow::new(&frame).values().count();
    }
}
