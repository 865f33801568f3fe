//! The body of a request: its type, its bytes within every bound, and whether it is JSON.

use super::limits::{BODY_COPIED_MAX, BODY_PIECE_MAX, BODY_RATE_MIN, RETRY_AFTER_OVERLOAD};
use super::problem::{Kind, Problem};
use anteroom::core::limits::{CONTENT_TYPE_BYTES_MAX, JSON_DEPTH_MAX};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The content type of a body that names none.
pub(crate) const UNNAMED: &str = "application/octet-stream";

/// Counts the bytes of all bodies that have not reached the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Buffered {
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

impl Buffered {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: Arc::default(),
            limit,
        }
    }

    /// Returns how many bytes are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn reserve(&self, room: &Room, more: usize) -> Result<(), Problem> {
        let fits = |bytes: usize| bytes.checked_add(more).filter(|bytes| *bytes <= self.limit);
        let counted = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if counted.is_err() {
            let detail = format!(
                "all bodies on their way to the store are limited to {} bytes together; try again later",
                self.limit
            );
            let problem = Problem::new(Kind::Overloaded, detail).closing();
            return Err(problem.with_retry_after(RETRY_AFTER_OVERLOAD));
        }
        room.0.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

/// Room that a body takes up among all of them.
///
/// Its bytes keep it too, so that it lasts while a store has them queued for a client that went
/// away; a store that keeps them for good gives it back when it is [released](Self::release).
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Reserved>);

#[derive(Debug)]
struct Reserved {
    of: Buffered,
    bytes: AtomicUsize,
}

impl Room {
    pub(crate) fn none(of: Buffered) -> Self {
        let bytes = AtomicUsize::new(0);
        Self(Arc::new(Reserved { of, bytes }))
    }

    /// Gives the room back: the store has answered for the body.
    pub(crate) fn release(&self) {
        self.0.release();
    }

    /// Hands a part of the room over to other bytes.
    pub(crate) fn hand_over(&self, to: &Self, bytes: usize) {
        let less = |taken: usize| Some(taken.saturating_sub(bytes));
        let taken = &self.0.bytes;
        let before = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let handed_over = before.unwrap_or_else(|before| before).min(bytes);
        to.0.bytes.fetch_add(handed_over, Ordering::Relaxed);
    }

    /// Gives a part of the room back.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.0.give_back(bytes);
    }

    /// Has bytes take up as much of the room as there are, for as long as they are kept.
    pub(crate) fn keep(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Roomed {
            bytes: bytes.into(),
            room: self.clone(),
        })
    }
}

impl Reserved {
    fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.of.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives back so much, if it was not all given back before.
    fn give_back(&self, bytes: usize) {
        let less = |taken: usize| Some(taken.saturating_sub(bytes));
        let before = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let given_back = before.unwrap_or_else(|before| before).min(bytes);
        self.of.bytes.fetch_sub(given_back, Ordering::Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.release();
    }
}

/// Bytes with the room that they take up.
struct Roomed {
    bytes: Bytes,
    room: Room,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Roomed {
    fn drop(&mut self) {
        self.room.give_back(self.bytes.len());
    }
}

/// Receives a body of at most `limit` bytes, and returns it with the room that it takes up.
///
/// # Errors
///
/// A problem when it is larger, when all bodies together are, when it comes too slowly, or when
/// the connection breaks.
pub(crate) async fn receive(
    mut body: Body,
    limit: usize,
    buffered: &Buffered,
) -> Result<(Bytes, Room), Problem> {
    let expected = body.size_hint();
    if expected.lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large(&format!("is {} bytes", expected.lower()), limit));
    }
    let expected = usize::try_from(expected.lower()).unwrap_or(limit);
    let room = Room::none(buffered.clone());
    buffered.reserve(&room, expected)?;
    let mut reserved = expected;
    let mut patience = None;
    let mut received = Received::Nothing;
    loop {
        let at_once = body.frame().now_or_never();
        let frame = if let Some(frame) = at_once {
            frame
        } else {
            // In a box: most bodies come with their heads, and need neither this nor a clock.
            let patience = patience.get_or_insert_with(|| Patience::with(limit));
            Box::pin(patience.frame(&mut body)).await?
        };
        let frame = match frame {
            None => return Ok(received.finish(room)),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let detail = format!("the body broke off: {error}");
                return Err(Problem::new(Kind::MalformedRequest, detail).closing());
            }
        };
        // Trailers are let go.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        let total = received.len() + piece.len();
        if total > limit {
            return Err(too_large("goes on", limit));
        }
        let more = total.saturating_sub(reserved);
        if more > 0 {
            buffered.reserve(&room, more)?;
            reserved += more;
        }
        received = received.and(piece, expected);
    }
}

/// How long a body is waited for that does not come at once.
struct Patience {
    all_by: Instant,
}

impl Patience {
    /// Begins to wait for a body of at most `limit` bytes.
    fn with(limit: usize) -> Self {
        let slowest = u64::try_from(limit / BODY_RATE_MIN).unwrap_or(u64::MAX);
        Self {
            all_by: Instant::now() + BODY_PIECE_MAX + Duration::from_secs(slowest),
        }
    }

    async fn frame(&self, body: &mut Body) -> Result<NextFrame, Problem> {
        let piece_by = self.all_by.min(Instant::now() + BODY_PIECE_MAX);
        timeout_at(piece_by, body.frame()).await.map_err(|_| {
            Problem::new(Kind::RequestTimeout, "the body did not come in time").closing()
        })
    }
}

/// What comes of a body next; none at its end.
type NextFrame = Option<Result<Frame<Bytes>, axum::Error>>;

fn too_large(how: &str, limit: usize) -> Problem {
    let detail = format!("the body {how}; the limit is {limit} bytes");
    Problem::new(Kind::PayloadTooLarge, detail).closing()
}

/// What has come of a body. A large one in one piece is not copied; a small one is, out of a buffer that is
/// many times as large and can be read into again then, and not only once the store has the job.
enum Received {
    Nothing,
    One(Bytes),
    More(BytesMut),
}

impl Received {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(piece) => piece.len(),
            Self::More(pieces) => pieces.len(),
        }
    }

    fn and(self, piece: Bytes, expected: usize) -> Self {
        match self {
            Self::Nothing => Self::One(piece),
            Self::One(first) => {
                let mut pieces = BytesMut::with_capacity(expected.max(first.len() + piece.len()));
                pieces.extend_from_slice(&first);
                pieces.extend_from_slice(&piece);
                Self::More(pieces)
            }
            Self::More(mut pieces) => {
                pieces.extend_from_slice(&piece);
                Self::More(pieces)
            }
        }
    }

    fn finish(self, room: Room) -> (Bytes, Room) {
        let bytes = match self {
            Self::Nothing => return (Bytes::new(), room),
            Self::One(piece) if piece.len() <= BODY_COPIED_MAX => Bytes::copy_from_slice(&piece),
            Self::One(piece) => piece,
            Self::More(pieces) => pieces.freeze(),
        };
        let roomed = Roomed {
            bytes,
            room: room.clone(),
        };
        (Bytes::from_owner(roomed), room)
    }
}

/// Returns the content type that a request names, as it was given.
///
/// # Errors
///
/// A problem when it is no media type, too long, given twice, or the body is compressed.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<&str, Problem> {
    let refused = |detail: String| Problem::new(Kind::UnsupportedMediaType, detail);
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && coding.as_bytes() != b"identity"
    {
        // The coding is not kept, and without it the bytes mean something else.
        let detail = "a Content-Encoding is not taken: send the body as it is".to_owned();
        let identity = HeaderValue::from_static("identity");
        return Err(refused(detail).with_header(header::ACCEPT_ENCODING, identity));
    }
    let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Err(refused("Content-Type is given more than once".to_owned()));
    }
    let Some(field) = first.filter(|field| !field.is_empty()) else {
        return Ok(UNNAMED);
    };
    let checked = match field.to_str() {
        Ok(text) => check_media_type(text).map(|()| text),
        Err(_) => Err(format!(
            "is {field:?}, which is no media type such as text/plain"
        )),
    };
    checked.map_err(|detail| refused(format!("Content-Type {detail}")))
}

/// Checks that `text` is a content type as a field of a head can hold it, as which it comes back.
///
/// # Errors
///
/// What is wrong, to follow the name of the place.
pub(crate) fn check_media_type(text: &str) -> Result<(), String> {
    // What most of them are is not looked at byte by byte.
    if text == "application/json" {
        return Ok(());
    }
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        let bytes = text.len();
        return Err(format!(
            "is {bytes} bytes; the limit is {CONTENT_TYPE_BYTES_MAX}"
        ));
    }
    let can_be_sent = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    if text.bytes().all(can_be_sent) && is_media_type(text) {
        return Ok(());
    }
    Err(format!(
        "is {text:?}, which is no media type such as text/plain"
    ))
}

/// Tells whether `text` is `type/subtype`, whatever its parameters.
fn is_media_type(text: &str) -> bool {
    let is_token = |token: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !token.is_empty() && token.bytes().all(allowed)
    };
    let parts = essence(text).split_once('/');
    parts.is_some_and(|(main, sub)| is_token(main) && is_token(sub))
}

/// Returns a content type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Tells whether a content type is JSON's own.
pub(crate) fn is_json(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case("application/json")
}

/// Tells whether a content type is JSON, or something written in it.
pub(crate) fn is_json_like(content_type: &str) -> bool {
    let essence = essence(content_type);
    let ending = essence.len().saturating_sub("+json".len());
    is_json(essence)
        || essence
            .get(ending..)
            .is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// Why bytes are not JSON.
#[derive(Debug)]
pub struct NotJson {
    detail: String,
    line: usize,
    column: usize,
}

impl NotJson {
    /// Returns what is wrong and where, as a sentence goes on after "is not JSON: ".
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Says that what was looked at, a line, is the `number`th of something larger.
    pub(crate) fn on_line(mut self, number: usize) -> Self {
        let place = |line, column| format!(" at line {line} column {column}");
        let within = place(self.line, self.column);
        if let Some(what) = self.detail.strip_suffix(&within) {
            self.detail = format!("{what}{}", place(number, self.column));
        }
        self.line = number;
        self
    }
}

impl From<NotJson> for Problem {
    fn from(error: NotJson) -> Self {
        Self::new(
            Kind::MalformedJson,
            format!("the body is not JSON: {}", error.detail),
        )
        .with_position(error.line, error.column)
    }
}

impl From<serde_json::Error> for NotJson {
    fn from(error: serde_json::Error) -> Self {
        Self {
            detail: error.to_string(),
            line: error.line(),
            column: error.column(),
        }
    }
}

/// Checks that `bytes` are one JSON text in UTF-8, nested at most [`JSON_DEPTH_MAX`] deep. They
/// stay as they are.
///
/// # Errors
///
/// [`NotJson`], with the place.
pub(crate) fn check_json(bytes: &[u8]) -> Result<(), NotJson> {
    serde_json::from_str::<IgnoredAny>(utf8(bytes)?)?;
    check_depth(bytes)
}

/// Checks that `bytes` are UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, NotJson> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        not_json(bytes, at, "a byte that is not UTF-8")
    })
}

/// Checks that JSON is nested at most [`JSON_DEPTH_MAX`] deep.
pub(crate) fn check_depth(bytes: &[u8]) -> Result<(), NotJson> {
    match too_deep(bytes) {
        None => Ok(()),
        Some(at) => {
            let what = format!("nested deeper than {JSON_DEPTH_MAX}");
            Err(not_json(bytes, at, &what))
        }
    }
}

/// Returns where JSON that is otherwise fine goes too deep: the parser itself keeps no count.
fn too_deep(bytes: &[u8]) -> Option<usize> {
    // Most have fewer openings in all, and they are counted many bytes at a time.
    let opens = |byte: &&u8| matches!(byte, b'[' | b'{');
    if bytes.iter().filter(opens).count() <= JSON_DEPTH_MAX {
        return None;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Some(at);
        }
    }
    None
}

fn not_json(bytes: &[u8], at: usize, what: &str) -> NotJson {
    let before = &bytes[..at];
    let line = before.split(|byte| *byte == b'\n').count();
    let column = 1 + before
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count();
    let detail = format!("{what} at line {line} column {column}");
    NotJson {
        detail,
        line,
        column,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    #[test]
    fn json_is_checked_and_a_mistake_has_its_place() {
        for (text, place) in [
            (&b"{}"[..], None),
            (b" [1, \"\\u00e4\", null, 1e9] ", None),
            (b"1", None),
            (b"", Some((1, 0))),
            (b"{\"a\": nope}", Some((1, 8))),
            (b"[1,\n 2,\n ]", Some((3, 2))),
            (b"{} {}", Some((1, 4))),
            (b"\"a\xff\"", Some((1, 3))),
            (b"\n\xff", Some((2, 1))),
        ] {
            let found = check_json(text)
                .err()
                .map(|error| (error.line, error.column));
            assert_eq!(found, place, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn json_may_nest_128_deep_and_no_deeper() {
        let nested = |open: &str, close: &str, depth: usize| {
            format!("{}1{}", open.repeat(depth), close.repeat(depth))
        };
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(check_json(nested(open, close, 128).as_bytes()).is_ok());
            let error = check_json(nested(open, close, 129).as_bytes()).unwrap_err();
            assert!(
                error.detail.contains("deeper than 128 at line 1"),
                "{error:?}"
            );
            assert!(check_json(nested(open, close, 200_000).as_bytes()).is_err());
        }
        let brackets_in_text = format!("[\"\\\"{}\"]", "[{".repeat(500));
        assert!(check_json(brackets_in_text.as_bytes()).is_ok());
        assert!(check_json(format!("[{}1]", "[1],".repeat(500)).as_bytes()).is_ok());
    }

    #[test]
    fn content_types_are_media_types() {
        let long = format!("text/{}", "x".repeat(300));
        for (text, fits) in [
            ("text/plain", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.x+json", true),
            ("text", false),
            ("text/", false),
            ("/plain", false),
            ("te xt/plain", false),
            (long.as_str(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
            assert_eq!(content_type(&headers).ok(), fits.then_some(text), "{text}");
        }
        assert_eq!(content_type(&HeaderMap::new()).ok(), Some(UNNAMED));
    }

    #[test]
    fn a_content_type_can_be_sent_back() {
        let long = format!("text/plain; a={}", "x".repeat(CONTENT_TYPE_BYTES_MAX));
        for (text, expected) in [
            ("text/plain;\tcharset=utf-8", None),
            (
                "text/plain; a=ä",
                Some("is \"text/plain; a=ä\", which is no media type such as "),
            ),
            (
                "text/plain\n",
                Some("is \"text/plain\\n\", which is no media type "),
            ),
            ("text", Some("is \"text\", which is no media type ")),
            (&long, Some("is 269 bytes; the limit is 255")),
        ] {
            let refusal = check_media_type(text).err();
            let is_expected = match (&refusal, expected) {
                (Some(refusal), Some(beginning)) => refusal.starts_with(beginning),
                (refusal, expected) => refusal.is_none() && expected.is_none(),
            };
            assert!(is_expected, "{text}: {refusal:?}");
        }
    }

    #[test]
    fn json_hides_in_other_types() {
        for (text, json, like) in [
            ("application/json", true, true),
            ("application/JSON; charset=utf-8", true, true),
            ("application/problem+json", false, true),
            ("text/plain", false, false),
            ("json", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_json(text), is_json_like(text)), (json, like), "{text}");
        }
    }

    fn chunked(pieces: &[&'static str]) -> Body {
        let pieces: Vec<Result<Bytes, Infallible>> = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece.as_bytes())))
            .collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_is_put_together_within_its_limit() {
        let buffered = Buffered::new(100);
        let (whole, room) = receive(chunked(&["ab", "cd", "e"]), 5, &buffered)
            .await
            .unwrap();
        assert_eq!(whole, "abcde");
        drop((whole, room));
        for body in [chunked(&["ab", "cd", "ef"]), Body::from("abcdef")] {
            assert!(receive(body, 5, &buffered).await.is_err());
        }
        assert_eq!(
            buffered.bytes.load(Ordering::Relaxed),
            0,
            "room is given back"
        );
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let buffered = Buffered::new(4);
        for body in [chunked(&["abc", "de"]), Body::from("abcde")] {
            assert!(receive(body, 10, &buffered).await.is_err());
        }
        let (whole, room) = receive(Body::from("abcd"), 10, &buffered).await.unwrap();
        assert_eq!(whole, "abcd");
        drop(room);
        assert_eq!(
            buffered.bytes.load(Ordering::Relaxed),
            4,
            "the bytes keep their room"
        );
        drop(whole);
        assert_eq!(
            buffered.bytes.load(Ordering::Relaxed),
            0,
            "room is given back"
        );
    }

    #[tokio::test]
    async fn room_is_given_back_once() {
        let buffered = Buffered::new(10);
        let (whole, room) = receive(Body::from("abcd"), 10, &buffered).await.unwrap();
        let (_other, _its_room) = receive(Body::from("ef"), 10, &buffered).await.unwrap();
        room.release();
        room.release();
        drop((whole, room));
        assert_eq!(buffered.bytes.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert!(receive(body, 10, &Buffered::new(10)).await.is_err());
    }
}
