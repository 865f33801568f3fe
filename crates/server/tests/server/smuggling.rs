//! Bytes that two readers could take for different requests: 400, and the connection ends.

use crate::harness::Server;

const POST: &str = "POST /v1/tasks/echo/jobs HTTP/1.1\r\nhost: localhost\r\n";
const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n";
/// What an attacker would like to have answered in another client's place.
const HIDDEN: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// What follows the first two lines of a submit.
const HEADS: [&str; 23] = [
    "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "content-length: 1\r\ncontent-length: 1\r\n\r\na",
    "content-length: 1\r\ncontent-length: 2\r\n\r\na",
    "content-length: 1, 1\r\n\r\na",
    "content-length: +1\r\n\r\na",
    "content-length: -1\r\n\r\na",
    "content-length: 0x1\r\n\r\na",
    "content-length: 1 1\r\n\r\na",
    "content-length: \r\n\r\n",
    "content-length: 99999999999999999999999\r\n\r\n",
    "content-length : 1\r\n\r\na",
    "transfer-encoding: identity\r\n\r\n",
    "transfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding: chunked, identity\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding: \u{b}chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "transfer-encoding:\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "x-folded: a\r\n b\r\ncontent-length: 1\r\n\r\na",
    "x-bare: a\ncontent-length: 1\r\n\r\na",
    "x-bare: a\rcontent-length: 1\r\n\r\na",
];

/// Chunks of a body that is chunked.
const CHUNKS: [&str; 17] = [
    "0x1\r\na\r\n0\r\n\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    "-1\r\na\r\n0\r\n\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n",
    "g\r\na\r\n0\r\n\r\n",
    "\r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\ra\r\n0\r\n\r\n",
    "1;x\na\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "1\r\na0\r\n\r\n",
    "ffffffffffffffffff1\r\na\r\n0\r\n\r\n",
    "1\r\na\r\n0\n\n",
    "1\r\na\r\n0\r\nx: y\n\r\n",
    "1\r\na\r\n0\r\nx: y\r\n z\r\n\r\n",
];

/// Sends pieces on one connection, each once the server has taken the one before, and checks that
/// one problem comes of it and the end.
async fn is_refused(server: &Server, pieces: &[&str]) {
    let mut connection = server.connect().await;
    for piece in pieces {
        // The server may have had enough before the last piece.
        connection.try_write(piece.as_bytes()).await;
    }
    let answer = connection.answer(false).await;
    answer.is_malformed(pieces);
    let rest = connection.closed().await;
    assert!(rest.is_empty(), "{pieces:?}: {}", rest.escape_ascii());
}

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_400_and_the_end() {
    let server = Server::start().await;
    for rest in HEADS {
        is_refused(&server, &[POST, rest, HIDDEN]).await;
        is_refused(&server, &[&format!("{POST}{rest}{HIDDEN}")]).await;
    }
    let lines = POST.replace("\r\n", "\n");
    is_refused(
        &server,
        &[&format!("{lines}content-length: 1\n\na{HIDDEN}")],
    )
    .await;
    assert_eq!(server.count().await, 0, "something was submitted");
}

#[tokio::test]
async fn odd_chunks_are_400_and_the_end() {
    let server = Server::start().await;
    for chunks in CHUNKS {
        is_refused(&server, &[&format!("{POST}{CHUNKED}{chunks}{HIDDEN}")]).await;
        is_refused(
            &server,
            &[&format!("{POST}{CHUNKED}1\r\nb\r\n"), chunks, HIDDEN],
        )
        .await;
    }
    assert_eq!(server.count().await, 0, "something was submitted");
}

/// What came before in the same bytes is answered, what comes after is not.
#[tokio::test]
async fn requests_before_it_are_answered() {
    let server = Server::start().await;
    let sound = format!("{POST}content-length: 1\r\n\r\na");
    for bad in [
        format!("{POST}{}{HIDDEN}", HEADS[0]),
        format!("{POST}{CHUNKED}{}{HIDDEN}", CHUNKS[4]),
        HIDDEN.replace("\r\n", "\n"),
    ] {
        let mut connection = server.connect().await;
        connection.write(format!("{sound}{sound}{bad}")).await;
        for _ in 0..2 {
            assert_eq!(connection.answer(false).await.status, 202, "{bad:?}");
        }
        let answer = connection.answer(false).await;
        answer.is_malformed(&[&bad]);
        assert!(connection.closed().await.is_empty(), "{bad:?}");
    }
    assert_eq!(server.count().await, 6);
}

/// Bodies as other clients send them, in pieces of any size.
#[tokio::test]
async fn sound_bodies_go_through_piece_by_piece() {
    let server = Server::start().await;
    let request =
        format!("{POST}{CHUNKED}A;name=\"value\"\r\n01234\r\n789\r\n0\r\nx-sum: 1\r\n\r\n");
    for size in [1, 3, 1_000] {
        let mut connection = server.connect().await;
        for piece in request.repeat(2).as_bytes().chunks(size) {
            connection.write(piece).await;
        }
        for _ in 0..2 {
            let answer = connection.answer(false).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            assert_eq!(answer.json()["input"]["bytes"], 10);
        }
    }
}
