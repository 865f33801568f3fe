//! A task that is pushed to a service, from the configuration to the result.

use crate::harness::{PATIENCE, Server, folder, run};
use anteroom::webhook::{Secret, verify};
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/tls/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/tls/key.pem");

/// Serves one connection after the other, each for one request, on a thread that ends with the
/// test's process; answers them in turn, and tells of the requests.
pub(crate) fn service(
    answers: Vec<&'static str>,
    tls: Option<Arc<ServerConfig>>,
) -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let request = match &tls {
                None => serve(stream, answer),
                Some(tls) => {
                    let connection = ServerConnection::new(tls.clone()).unwrap();
                    serve(StreamOwned::new(connection, stream), answer)
                }
            };
            told.send(request).unwrap();
        }
    });
    (address, requests)
}

fn serve(mut stream: impl Read + Write, answer: &str) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut body = vec![0; header(&head, "content-length").parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
    stream.flush().unwrap();
    (head, body)
}

/// What the service of a test needs for TLS, with a certificate for `localhost` of its own.
fn tls() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(CERTIFICATE).unwrap()];
    let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
    found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        .1
}

#[test]
fn a_pushed_job_ends_with_the_services_answer_and_no_secret_is_logged() {
    let (address, requests) = service(
        vec![
            "HTTP/1.1 503 Busy\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\
             content-length: 3\r\n\r\nout",
            "HTTP/1.1 422 No\r\ncontent-type: text/plain\r\nconnection: close\r\n\
             content-length: 7\r\n\r\nnot so!",
        ],
        None,
    );
    let folder = folder(&format!(
        "store = \"memory:\"\n[webhooks]\nsecrets_file = \"secrets\"\n\
         [tasks.pushed]\npush = \"http://{address}/run\"\n"
    ));
    std::fs::write(folder.path().join("secrets"), format!("{SECRET}\n")).unwrap();
    let server = Server::start_with(folder.path(), &[("ANTEROOM_LOG", "trace")]);
    let tasks = server.get("/v1/tasks/pushed", "");
    assert!(tasks.contains(r#""runner":"push""#), "{tasks}");

    let id = server.submit(&["pushed", "--input", "in", "--wait", "30s"]);
    let result = server.client(&["job", &id, "--result"]);
    assert_eq!(
        (result.code, &*result.stdout),
        (Some(0), "out"),
        "{result:?}"
    );
    let job = server.get(&format!("/v1/jobs/{id}"), "");
    assert!(
        job.contains(r#""attempt":1,"#),
        "a busy service costs none: {job}"
    );
    let secrets: [Secret; 1] = [SECRET.parse().unwrap()];
    for _ in 0..2 {
        let (head, body) = requests.recv_timeout(PATIENCE).unwrap();
        assert_eq!(body, b"in");
        assert_eq!(header(&head, "anteroom-job"), id);
        let timestamp = header(&head, "webhook-timestamp").parse().unwrap();
        let (webhook, signature) = (
            header(&head, "webhook-id"),
            header(&head, "webhook-signature"),
        );
        assert!(
            verify(&secrets, webhook, timestamp, &body, signature),
            "{head}"
        );
    }

    let refused = server.client(&["submit", "pushed", "--input", "in", "--wait", "30s"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        told.contains("the service answered 422 Unprocessable Entity: not so!"),
        "{told}"
    );
    server.signal(Signal::SIGTERM);
    let (status, lines) = server.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    for line in &lines {
        assert!(!line.contains("MfKQ") && !line.contains("v1,"), "{line}");
    }
}

#[test]
fn a_service_over_tls_is_trusted_if_the_machine_does() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nout";
    let (address, requests) = service(vec![answer], Some(tls()));
    let folder = folder(&format!(
        "store = \"memory:\"\n[tasks.pushed]\nmax_attempts = 1\n\
         push = \"https://localhost:{}/run\"\n",
        address.port()
    ));
    let server = Server::start_with(folder.path(), &[("SSL_CERT_FILE", CERTIFICATE)]);
    let id = server.submit(&["pushed", "--input", "in", "--wait", "30s"]);
    let result = server.client(&["job", &id, "--result"]);
    assert_eq!(
        (result.code, &*result.stdout),
        (Some(0), "out"),
        "{result:?}"
    );
    assert_eq!(requests.recv_timeout(PATIENCE).unwrap().1, b"in");
}

#[test]
fn a_service_over_tls_that_nobody_vouches_for_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = tls();
    let shaken = std::thread::spawn(move || {
        let (stream, _): (TcpStream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(tls).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        stream.read(&mut [0; 1]).is_ok_and(|read| read > 0)
    });
    let folder = folder(&format!(
        "store = \"memory:\"\n[tasks.pushed]\nmax_attempts = 1\n\
         push = \"https://localhost:{port}/\"\n"
    ));
    let server = Server::start(folder.path());
    let failed = server.client(&["submit", "pushed", "--input", "in", "--wait", "30s"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let told = format!("{}{}", failed.stdout, failed.stderr);
    assert!(told.contains("certificate"), "{told}");
    assert!(!shaken.join().unwrap(), "the request reached it");
}

#[test]
fn a_push_that_cannot_be_is_told_with_its_place() {
    let folder = folder("[tasks.pushed]\npush = \"http://user:a-secret@x/\"\n");
    let checked = run(folder.path(), &["check"]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    let expected = "anteroom.toml:2:8: push has a user name or password";
    assert!(checked.stderr.contains(expected), "{checked:?}");
    assert!(!checked.stderr.contains("a-secret"), "{checked:?}");
}
