//! Stands between a node and its database, and hurts what passes.
//!
//! It reads what the node sends message by message (the frontend side of `PostgreSQL`'s protocol, in
//! the clear), so that it knows a commit when it sees one, and what is committed. Answers it passes
//! on as they come.

use crate::pause;
use anyhow::{Context, ensure};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What a client asks for before anything else: TLS, or GSSAPI.
const REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// What a query ends a transaction with.
const COMMIT: &[u8] = b"COMMIT\0";
/// How long the database may take to answer a commit that is to go without an answer.
const COMMIT_MAX: Duration = Duration::from_secs(10);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// When the connection breaks around a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it reaches the database: nothing is done.
    Before,
    /// Once it is done, before the answer: it is done, and the node does not know.
    After,
}

/// Which commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One that submits jobs.
    Submits,
    /// One that changes anything.
    Changes,
}

/// A proxy for one node.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    armed: Mutex<Option<(Moment, What)>>,
    /// A connection was cut as it was meant to be.
    cut: Notify,
    /// Commits of submits are rolled back, and the node is told that they went well.
    is_lying: AtomicBool,
}

impl Proxy {
    /// Starts one that listens on `own`, in front of the database on this machine's `port`.
    ///
    /// # Errors
    ///
    /// When it cannot listen there.
    pub async fn start(own: IpAddr, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((own, 0)).await;
        let listener = listener.with_context(|| format!("listen on {own}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let for_all = shared.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok((client, _)) = listener.accept().await else {
                    pause(Duration::from_millis(10)).await;
                    continue;
                };
                connections.spawn(serve(client, port, for_all.clone()));
            }
        });
        Ok(Self {
            address,
            shared,
            _serving: serving,
        })
    }

    /// Returns where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the connection of the next commit of that kind, and returns once it has.
    ///
    /// # Errors
    ///
    /// When there is none in time.
    pub async fn cut(&self, moment: Moment, what: What, within: Duration) -> anyhow::Result<()> {
        let cut = self.shared.cut.notified();
        *self.shared.armed() = Some((moment, what));
        let in_time = tokio::time::timeout(within, cut).await.is_ok();
        let still_armed = self.shared.armed().take().is_some();
        ensure!(
            in_time && !still_armed,
            "no commit of {what:?} came by within {within:?}"
        );
        Ok(())
    }

    /// Rolls commits of submits back from now on, and tells the node that they went well.
    pub fn lie(&self) {
        self.shared.is_lying.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn armed(&self) -> std::sync::MutexGuard<'_, Option<(Moment, What)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the connection of a commit of this kind is to break, if it is.
    fn strike(&self, seen: Option<What>) -> Option<Moment> {
        let seen = seen?;
        let mut armed = self.armed();
        let is_meant = |what| what == What::Changes || seen == What::Submits;
        let (moment, _) = armed.take_if(|(_, what)| is_meant(*what))?;
        Some(moment)
    }
}

/// Passes on what comes over one connection, until either side or the proxy ends it.
async fn serve(client: TcpStream, port: u16, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    for stream in [&client, &server] {
        // Without it answers are late; they come all the same.
        let _slower = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let swallow = AtomicBool::new(false);
    // The first that ends closes both: the other half is dropped with it.
    tokio::select! {
        _ended = ask(from_client, to_server, &shared, &swallow) => {}
        _ended = answer(from_server, to_client, &swallow) => {}
    }
    if swallow.load(Ordering::SeqCst) {
        shared.cut.notify_waiters();
    }
}

async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    swallow: &AtomicBool,
) -> std::io::Result<()> {
    let mut frontend = Frontend::default();
    let mut out = BytesMut::new();
    loop {
        frontend.bytes.reserve(READ_BYTES);
        if from.read_buf(&mut frontend.bytes).await? == 0 {
            return Ok(());
        }
        while let Some(message) = frontend.next() {
            if !message.is_commit {
                out.extend_from_slice(&message.bytes);
                continue;
            }
            match shared.strike(message.changes) {
                Some(Moment::Before) => {
                    to.write_all(&out).await?;
                    shared.cut.notify_waiters();
                    return Ok(());
                }
                Some(Moment::After) => {
                    swallow.store(true, Ordering::SeqCst);
                    out.extend_from_slice(&message.bytes);
                    to.write_all(&out).await?;
                    // The other half ends it, once the answer is there.
                    pause(COMMIT_MAX).await;
                    return Ok(());
                }
                None => {
                    let is_lie = shared.is_lying.load(Ordering::SeqCst)
                        && message.changes == Some(What::Submits);
                    out.extend_from_slice(if is_lie {
                        b"Q\0\0\0\x0dROLLBACK\0"
                    } else {
                        &message.bytes
                    });
                }
            }
        }
        to.write_all(&out).await?;
        out.clear();
    }
}

/// Passes answers on, and what comes after a cut to nobody: it returns once the commit is answered.
async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    swallow: &AtomicBool,
) -> std::io::Result<()> {
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    loop {
        bytes.reserve(READ_BYTES);
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if !swallow.load(Ordering::SeqCst) {
            to.write_all(&bytes).await?;
            bytes.clear();
            continue;
        }
        let is_answered = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
        if is_answered(COMMIT) || is_answered(b"ROLLBACK\0") {
            return Ok(());
        }
    }
}

/// What a node sends, cut into messages.
#[derive(Debug, Default)]
struct Frontend {
    bytes: BytesMut,
    /// The first message, which has no type, is over.
    has_begun: bool,
    /// The statements that change something, by the names that they were prepared under.
    statements: HashMap<Bytes, What>,
    /// What the transaction has changed so far.
    changes: Option<What>,
}

#[derive(Debug)]
struct Message {
    bytes: Bytes,
    is_commit: bool,
    changes: Option<What>,
}

impl Frontend {
    /// Returns the next message, once it is there in full.
    fn next(&mut self) -> Option<Message> {
        let head = usize::from(self.has_begun);
        let mut length = self.bytes.get(head..head + 4)?;
        let length = head + usize::try_from(length.get_u32()).ok()?.max(4);
        if self.bytes.len() < length {
            return None;
        }
        let bytes = self.bytes.split_to(length).freeze();
        let mut message = Message {
            bytes: bytes.clone(),
            is_commit: false,
            changes: None,
        };
        if !self.has_begun {
            let code = bytes.get(4..8).map(|mut code| code.get_u32());
            self.has_begun = !code.is_some_and(|code| REQUESTS.contains(&code));
            return Some(message);
        }
        match bytes[0] {
            b'P' => self.prepare(&bytes.slice(5..)),
            b'B' => self.bind(&bytes.slice(5..)),
            b'Q' => {
                message.is_commit = bytes.ends_with(COMMIT);
                message.changes = self.changes;
                if message.is_commit || bytes.ends_with(b"ROLLBACK\0") {
                    self.changes = None;
                }
            }
            _ => {}
        }
        Some(message)
    }

    fn prepare(&mut self, body: &Bytes) {
        let name = word(body);
        let sql = word(&body.slice((name.len() + 1).min(body.len())..));
        let has = |part: &str| sql.windows(part.len()).any(|it| it == part.as_bytes());
        let changes = if has("INSERT INTO job ") {
            What::Submits
        } else if has("INSERT INTO ") || has("DELETE FROM ") || sql.starts_with(b"UPDATE ") {
            What::Changes
        } else {
            return;
        };
        self.statements.insert(name, changes);
    }

    fn bind(&mut self, body: &Bytes) {
        let portal = word(body);
        let name = word(&body.slice((portal.len() + 1).min(body.len())..));
        let changes = self.statements.get(&name).copied();
        if self.changes != Some(What::Submits) && changes.is_some() {
            self.changes = changes;
        }
    }
}

/// Returns what stands before the next zero.
fn word(bytes: &Bytes) -> Bytes {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.slice(..end.unwrap_or(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    /// A connection that asks for TLS first, submits, looks, and changes.
    fn said() -> Vec<u8> {
        let begun = [
            &16_u32.to_be_bytes()[..],
            &196_608_u32.to_be_bytes(),
            b"user\0x\0\0",
        ];
        let begun = begun.concat();
        let request = [8_u32.to_be_bytes(), REQUESTS[0].to_be_bytes()].concat();
        let messages = [
            request,
            begun[..16].to_vec(),
            typed(b'Q', b"BEGIN\0"),
            typed(b'P', b"s0\0INSERT INTO job (id) SELECT 1\0\0\0"),
            typed(b'P', b"s1\0DELETE FROM waiting WHERE id = $1\0\0\0"),
            typed(b'P', b"s2\0SELECT 1 FOR UPDATE\0\0\0"),
            typed(b'B', b"\0s0\0\0\0"),
            typed(b'B', b"\0s1\0\0\0"),
            typed(b'Q', b"COMMIT\0"),
            typed(b'B', b"\0s2\0\0\0"),
            typed(b'Q', b"COMMIT\0"),
            typed(b'B', b"\0s1\0\0\0"),
            typed(b'Q', b"COMMIT\0"),
        ];
        messages.concat()
    }

    #[test]
    fn a_commit_is_known_with_what_it_commits_however_the_bytes_come() {
        let said = said();
        for step in [1, 2, 7, said.len()] {
            let mut frontend = Frontend::default();
            let (mut passed, mut commits) = (Vec::new(), Vec::new());
            for bytes in said.chunks(step) {
                frontend.bytes.extend_from_slice(bytes);
                while let Some(message) = frontend.next() {
                    passed.extend_from_slice(&message.bytes);
                    if message.is_commit {
                        commits.push(message.changes);
                    }
                }
            }
            assert_eq!(passed, said, "in steps of {step}");
            assert_eq!(
                commits,
                [Some(What::Submits), None, Some(What::Changes)],
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn only_the_commit_that_is_meant_is_struck() {
        let shared = Shared::default();
        assert_eq!(shared.strike(Some(What::Submits)), None);
        *shared.armed() = Some((Moment::After, What::Submits));
        assert_eq!(shared.strike(None), None);
        assert_eq!(shared.strike(Some(What::Changes)), None);
        assert_eq!(shared.strike(Some(What::Submits)), Some(Moment::After));
        assert_eq!(shared.strike(Some(What::Submits)), None, "once");
    }
}
