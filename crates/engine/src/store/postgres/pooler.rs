//! Tells whether something stands between us and the server: a pooler, which gives a connection's
//! transactions to whichever of its own connections is free.
//!
//! A server names at the start the process that serves the connection, and who asks to cancel a
//! statement has to name it. A pooler makes up another. So the connection is direct where the
//! process that was named is the one that answers.

use super::tls::Unbound;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_postgres::Client;
use tokio_postgres::tls::TlsConnect;

/// What asks a server for TLS, and how long that is.
const TLS_REQUEST: i32 = 80_877_103;
/// The bytes of a request that follow its length and its code: the process and its secret.
const KEY_BYTES: usize = 8;

/// Returns the process that was named at the start; none where none was.
pub(super) async fn named_process(client: &Client) -> Option<i32> {
    // The client keeps it to itself, but for a request to cancel: that goes to nobody but us.
    let (theirs, ours) = tokio::io::duplex(64);
    let token = client.cancel_token();
    let (asked, heard) = tokio::join!(token.cancel_query_raw(theirs, Nothing), hear(ours));
    asked.ok().and(heard.ok()).filter(|process| *process != 0)
}

/// Reads a request to cancel, after one for TLS where there is one.
async fn hear(mut stream: DuplexStream) -> io::Result<i32> {
    loop {
        let _length = stream.read_i32().await?;
        if stream.read_i32().await? == TLS_REQUEST {
            stream.write_all(b"S").await?;
            continue;
        }
        let process = stream.read_i32().await?;
        let mut secret = [0; KEY_BYTES - 4];
        stream.read_exact(&mut secret).await?;
        return Ok(process);
    }
}

/// TLS that is none.
struct Nothing;

impl TlsConnect<DuplexStream> for Nothing {
    type Stream = Unbound<DuplexStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Unbound<DuplexStream>>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        std::future::ready(Ok(Unbound(stream)))
    }
}
