//! Callbacks, from a submit with `callback_url` to the receiver, over a death of the server.

use crate::harness::{PATIENCE, Server, folder};
use crate::pushing::{SECRET, header, service};
use anteroom::webhook::{Secret, verify};
use nix::sys::signal::Signal;
use serde_json::Value;

const TAKEN: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

fn config(more: &str) -> String {
    format!(
        "store = \"sqlite:jobs.db\"\n[webhooks]\nsecrets = [\"{SECRET}\"]\n\
         [tasks.echo]\nexec = [\"cat\"]\n{more}"
    )
}

/// Submits a job that calls back, and returns the status and the body of the answer.
fn submit(server: &Server, url: &str) -> (String, Value) {
    let url = url.replace(':', "%3A").replace('/', "%2F");
    let answer = server.post(&format!("/v1/tasks/echo/jobs?callback_url={url}"), "1");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, serde_json::from_str(body).unwrap())
}

/// The receiver is down when the job ends, and the server dies before it is up: what is in the
/// store is all that is left.
#[test]
fn a_callback_outlives_the_server_and_comes_signed() {
    let address = {
        // Nobody listens here any more.
        let (address, _requests) = service(Vec::new(), None);
        address
    };
    let folder = folder(&config(""));
    let server = Server::start(folder.path());
    let (status, job) = submit(&server, &format!("http://{address}/hook"));
    assert_eq!(status, "202", "{job}");
    let id = job["id"].as_str().unwrap().to_owned();
    server.wait_for_state(&id, "succeeded");
    server.signal(Signal::SIGKILL);
    server.wait();

    let (receiver, requests) = service(vec![TAKEN], None);
    let server = Server::start(folder.path());
    let listed = server.get("/v1/jobs?task=anteroom.callback", "");
    let (_head, body) = listed.split_once("\r\n\r\n").unwrap();
    let listed: Value = serde_json::from_str(body).unwrap();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1, "{listed}");
    let url = listed["jobs"][0]["callback_url"].as_str().unwrap();
    assert_eq!(url, format!("http://{address}/hook"));
    let all = server.get("/v1/jobs", "");
    assert!(!all.contains("anteroom.callback"), "{all}");

    // To where somebody listens: what comes is signed, and names the job.
    let (status, job) = submit(&server, &format!("http://{receiver}/hook?a=b"));
    assert_eq!(status, "202", "{job}");
    let (head, body) = requests.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1"), "{head}");
    let secrets: [Secret; 1] = [SECRET.parse().unwrap()];
    let timestamp = header(&head, "webhook-timestamp").parse().unwrap();
    let (webhook, signature) = (
        header(&head, "webhook-id"),
        header(&head, "webhook-signature"),
    );
    assert!(
        verify(&secrets, webhook, timestamp, &body, signature),
        "{head}"
    );
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["type"], "job.succeeded");
    assert_eq!(event["data"]["id"], job["id"]);
    assert_eq!(event["data"]["links"]["self"], job["links"]["self"]);
}

/// An open server on loopback may call back to loopback, and nowhere else that is private. With
/// tokens, or where it listens elsewhere, to what its operator allows.
#[test]
fn callbacks_go_where_they_are_allowed_to() {
    let folder_open = folder(&config(""));
    let server = Server::start(folder_open.path());
    for (url, is_taken) in [
        ("http://127.0.0.1:9/", true),
        ("http://[::1]:9/", true),
        ("http://localhost:9/", true),
        ("https://192.0.78.9/hook", true),
        ("http://10.0.0.1/", false),
        ("http://192.168.1.1/", false),
        ("http://169.254.169.254/latest/meta-data", false),
        ("http://[::ffff:10.0.0.1]/", false),
        ("http://[64:ff9b::a00:1]/", false),
        ("http://0x0a.1/", false),
        ("http://167772161/", false),
        ("http://0.0.0.0/", false),
    ] {
        let (status, body) = submit(&server, url);
        if is_taken {
            assert_eq!(status, "202", "{url}: {body}");
        } else {
            assert_eq!(status, "422", "{url}: {body}");
            assert_eq!(body["type"], "/problems/callback-refused", "{url}");
        }
    }
    drop(server);
    let folder_closed = folder(&config("[callbacks]\nallow = [\"10.1.0.0/16\"]\n"));
    let server = Server::start(folder_closed.path());
    for (url, expected) in [("http://10.1.2.3/", "202"), ("http://10.2.0.1/", "422")] {
        let (status, body) = submit(&server, url);
        assert_eq!(status, expected, "{url}: {body}");
    }
}
