//! The format, and what becomes of files that are not what was exported.

use super::{About, Content, MoveError, examine, export, import};
use crate::clock::Clock;
use crate::store::archive::{
    Archive, KeptDocument, KeptGone, KeptHistory, KeptJob, KeptPace, KeptSubmit, Record,
};
use crate::store::memory::MemoryStore;
use crate::store::{Document, KeptQueue, Store};
use anteroom_core::{
    AttemptError, ClaimNumber, EventId, EventPart, Failure, FailureKind, Fingerprint, Happened,
    Idempotency, IdempotencyKey, Job, JobEvent, JobId, Label, Lease, LogStream, Name, Pace,
    Payload, Priority, Progress, QueueSettings, RateLimit, Report, ShownState, Spec, State,
    StateEvent, Status, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_123);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn job(n: u16, status: Status) -> KeptJob {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: "\u{e4}\0".into(),
    };
    KeptJob {
        job: Job {
            spec: Arc::new(Spec {
                id: JobId::from_parts(1_795_348_800_000, n, 7),
                task: name("task"),
                queue: name("default"),
                group: Some(Label::new("a \"group\"").unwrap()),
                priority: Priority::default(),
                created_at: NOW,
                timeout: Duration::from_millis(1_500),
                retain: Duration::from_hours(1),
                unique_key: Some(Label::new(&format!("key {n}")).unwrap()),
                callback_url: Some("https://example.com/".into()),
                tags: BTreeMap::from([(name("tag"), "value".to_owned())]),
                input: input.info(),
            }),
            status,
            errors: Vec::new(),
            result: None,
            progress: None,
        },
        input,
        result: None,
        lease_for: None,
        told: KeptHistory::default(),
        settled: None,
    }
}

/// A job that has begun, failed once, and said something.
fn told() -> KeptJob {
    let status = Status {
        state: State::Running,
        version: 6,
        attempt: 2,
        claim: ClaimNumber::new((3 << 40) + 9),
        lease: Lease::Pulled,
        lease_expires_at: NOW.after(Duration::from_secs(30)),
        started_at: Some(NOW),
        cancel_requested: true,
        hand_backs: 1,
        start_before: Some(NOW),
        ..Status::submitted(NOW, None, 5)
    };
    let id = |version, reports, part| EventId {
        version,
        reports,
        part,
    };
    let report = |n, report| JobEvent {
        id: id(5, n, EventPart::Report),
        happened: Happened::Reported { attempt: 1, report },
    };
    let state = |version, state, attempt| StateEvent {
        id: id(version, 4, EventPart::State),
        state,
        attempt,
    };
    // A number that readers of JSON get wrong by its last bit.
    let progress = Progress::new(Some(0.1 + 0.2), Some("half".to_owned()));
    let mut kept = job(2, status);
    kept.job.errors.push(AttemptError {
        attempt: 1,
        at: NOW,
        failure: Failure::new(FailureKind::LeaseExpired, "line\nline"),
    });
    kept.job.progress.clone_from(&progress);
    kept.lease_for = Some(Duration::from_secs(30));
    kept.told = KeptHistory {
        reports_made: 4,
        reports: vec![
            report(2, Report::log(LogStream::Stderr, "a")),
            report(4, Report::Progress(progress.unwrap())),
        ],
        states_dropped: 1,
        states: vec![
            state(5, ShownState::Scheduled, 1),
            state(6, ShownState::Running, 2),
        ],
    };
    kept.settled = Some((ClaimNumber::new(3 << 40), Fingerprint([0xab; 32])));
    kept
}

fn done() -> KeptJob {
    let status = Status {
        state: State::Succeeded,
        version: 3,
        attempt: 1,
        claim: ClaimNumber::new(1 << 40),
        started_at: Some(NOW),
        finished_at: Some(NOW),
        ..Status::submitted(NOW, None, 5)
    };
    let mut kept = job(3, status);
    let result = Payload {
        content_type: "application/json".into(),
        bytes: vec![0xff, 0].into(),
    };
    kept.job.result = Some(result.info());
    kept.result = Some(result);
    kept
}

/// A record of each kind, with all that one may have, and with nothing that it need not have.
fn records() -> Vec<Record> {
    let queue = |queue: &str, settings| {
        Record::Queue(KeptQueue {
            name: name(queue),
            version: 2,
            settings,
        })
    };
    let submit = |key: &str, duplicate| {
        Record::Submit(KeptSubmit {
            idempotency: Idempotency {
                scope: "".into(),
                key: IdempotencyKey::new(key).unwrap(),
            },
            task: name("task"),
            fingerprint: Fingerprint([7; 32]),
            id: JobId::from_bytes([9; 16]),
            duplicate,
            at: NOW,
        })
    };
    vec![
        Record::Document(KeptDocument {
            kind: name("anteroom.lease"),
            document: Document {
                name: name("key"),
                version: 4,
                value: vec![0, 0xff].into(),
            },
        }),
        queue(
            "all",
            QueueSettings {
                paused: Some(false),
                max_depth: Some(1),
                max_concurrency: Some(2),
                group_concurrency: Some(3),
                rate_limit: Some(RateLimit {
                    limit: 4,
                    period: Duration::from_millis(5),
                }),
            },
        ),
        queue("none", QueueSettings::default()),
        Record::Pace(KeptPace {
            queue: name("all"),
            pace: Pace::from_nanos(i64::MAX),
        }),
        Record::Job(Box::new(job(1, Status::submitted(NOW, None, 1)))),
        Record::Job(Box::new(told())),
        Record::Job(Box::new(done())),
        submit("a", true),
        submit("b \u{1F980}", false),
        Record::Gone(KeptGone {
            id: JobId::from_bytes([9; 16]),
            at: NOW,
        }),
    ]
}

async fn store_with(records: Vec<Record>) -> MemoryStore {
    let (clock, _hand) = Clock::manual(NOW);
    let store = MemoryStore::new(clock);
    store.put(records).await.unwrap();
    store
}

async fn exported() -> (String, Content) {
    let store = store_with(records()).await;
    let mut file = Vec::new();
    let content = export(&store, &About::made_at(NOW), &mut file)
        .await
        .unwrap();
    (String::from_utf8(file).unwrap(), content)
}

async fn imported(file: &str) -> Result<Content, MoveError> {
    let store = store_with(Vec::new()).await;
    let imported = import(&store, &mut file.as_bytes()).await;
    let examined = examine(&mut file.as_bytes());
    let text = |error: &MoveError| error.to_string();
    assert_eq!(
        imported.as_ref().map(|it| &it.content).map_err(text),
        examined.as_ref().map_err(text),
        "an import and a look at the file agree"
    );
    Ok(imported?.content)
}

/// Returns the file with what its last line says made right again.
fn sealed(file: &str) -> String {
    use sha2::{Digest, Sha256};
    let (lines, tail) = file.trim_end().rsplit_once('\n').unwrap();
    let hex = |text: String| super::wire::hex(&Sha256::digest(text));
    let records = lines.split_inclusive('\n').skip(1).collect::<String>();
    let mut tail: serde_json::Value = serde_json::from_str(tail).unwrap();
    tail["end"]["sha256"] = hex(format!("{lines}\n")).into();
    tail["end"]["digest"] = hex(format!("{records}\n")).into();
    format!("{lines}\n{tail}\n")
}

#[tokio::test]
async fn every_record_reads_back() {
    let (file, content) = exported().await;
    assert_eq!(content.total(), records().len() as u64, "{file}");
    let lines = file.lines().skip(1);
    let lines = lines.map(|line| super::line::Line::read(line).unwrap().record());
    let read: Vec<Record> = lines.filter_map(|line| line.unwrap()).collect();
    assert_eq!(read, records(), "{file}");
    assert_eq!(imported(&file).await.unwrap(), content);
    assert_eq!(sealed(&file), file);
}

/// Files of this version have to be read by every later program: what lines look like is no accident.
#[tokio::test]
async fn lines_look_as_the_documentation_says() {
    let (file, _) = exported().await;
    let lines: Vec<&str> = file.lines().collect();
    assert!(
        lines[0].starts_with(r#"{"anteroom_store":{"version":1,"export":""#),
        "{}",
        lines[0]
    );
    let head = r#""exported_at":"2026-11-22T12:00:00.123Z""#;
    assert!(lines[0].contains(head), "{}", lines[0]);
    for line in [
        r#"{"document":{"kind":"anteroom.lease","name":"key","version":4,"base64":"AP8="}}"#,
        r#"{"queue":{"name":"none","version":2}}"#,
        r#"{"pace":{"queue":"all","nanos":9223372036854775807}}"#,
        r#"{"gone":{"id":"09090909-0909-0909-0909-090909090909","at":1795348800123}}"#,
    ] {
        assert!(lines.contains(&line), "{line} in {file}");
    }
    let job = lines
        .iter()
        .find(|line| line.starts_with(r#"{"job":"#))
        .unwrap();
    assert_eq!(
        *job,
        concat!(
            r#"{"job":{"id":"01a20320-a200-7001-8000-000000000007","task":"task","#,
            r#""queue":"default","group":"a \"group\"","priority":5,"created_at":1795348800123,"#,
            r#""timeout_ms":1500,"retain_ms":3600000,"unique_key":"key 1","#,
            r#""callback_url":"https://example.com/","tags":{"tag":"value"},"state":"waiting","#,
            r#""version":1,"run_at":1795348800123,"attempt":0,"max_attempts":1,"#,
            r#""input":{"content_type":"text/plain","base64":"w6QA"}}}"#,
        )
    );
    let tail = lines.last().unwrap();
    let counts =
        r#"{"end":{"counts":{"document":1,"gone":1,"job":3,"pace":1,"queue":2,"submit":2},"#;
    assert!(tail.starts_with(counts), "{tail}");
}

/// Whatever byte of it is altered, wherever it is cut, a file is not taken for what was exported.
#[tokio::test]
async fn no_part_of_a_file_can_be_altered() {
    let (file, _) = exported().await;
    for end in 0..file.len() {
        if let Some(cut) = file.get(..end) {
            assert!(examine(&mut cut.as_bytes()).is_err(), "cut at {end}");
        }
    }
    let bytes = file.as_bytes();
    for at in 0..bytes.len() {
        let mut altered = bytes.to_vec();
        altered[at] ^= 1;
        let read = examine(&mut altered.as_slice());
        assert!(read.is_err(), "byte {at} of {file}");
    }
    let more = format!("{file}\n");
    assert!(examine(&mut more.as_bytes()).is_err());
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let (file, _) = exported().await;
    let job_line = 1 + file
        .lines()
        .position(|line| line.starts_with("{\"job\""))
        .unwrap();
    let in_job = |what: &str| format!("line {job_line}: {what}");
    let cases = [
        (
            "\"anteroom_store\"",
            "\"another\"",
            "line 1: it is no export of a store".to_owned(),
        ),
        (
            "\"version\":1,\"export\"",
            "\"version\":2,\"export\"",
            "line 1: it has version 2 of the format, and this program knows version 1".to_owned(),
        ),
        (
            "\"export\":",
            "\"colour\":1,\"export\":",
            "line 1: unknown field `colour`".to_owned(),
        ),
        (
            "\"priority\":5",
            "\"priority\":10",
            in_job("priority: a priority is"),
        ),
        (
            "\"priority\":5",
            "\"priority\":5,\"colour\":1",
            in_job("unknown field `colour`"),
        ),
        (
            "\"task\":\"task\",\"queue\"",
            "\"task\":\"No\",\"queue\"",
            in_job("task: has 'N'"),
        ),
        (
            "\"state\":\"waiting\"",
            "\"state\":\"asleep\"",
            in_job("state: there is no \"asleep\""),
        ),
        ("w6QA", "w6Q", in_job("input.base64: ")),
        ("{\"job\"", "{\"work\"", in_job("unknown variant `work`")),
        ("\"attempt\":0,", "", in_job("missing field `attempt`")),
        ("\"attempt\":0,", "\"attempt\":2,", in_job("job 01a20320")),
        (
            "\"state\":\"waiting\"",
            "\"state\":\"succeeded\"",
            in_job("job 01a20320"),
        ),
        (
            "{\"queue\":{\"name\":\"none\"",
            "{\"queue\":{\"name\":\"all\"",
            "line 4: queue all is out of its order".to_owned(),
        ),
        (
            "\"gone\":1,",
            "\"gone\":2,",
            "it was altered: its last line says other counts".to_owned(),
        ),
        (
            "anteroom.lease",
            "anteroom.import",
            "line 2: kind: documents of anteroom.import".to_owned(),
        ),
    ];
    for (from, to, expected) in cases {
        let altered = sealed(&file.replacen(from, to, 1));
        let error = imported(&altered).await.unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{from} {to}: {error}");
        assert!(!error.contains("at line 1"), "{error}");
    }
    let altered = file.replacen("\"priority\":5", "\"priority\":6", 1);
    let error = imported(&altered).await.unwrap_err().to_string();
    assert!(
        error.starts_with("it was altered: the lines before its last one"),
        "{error}"
    );
    let cut = file.trim_end().rsplit_once('\n').unwrap().0;
    let error = imported(&format!("{cut}\n")).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "it is cut short: it ends after line 11, before the line that ends it"
    );
    let error = imported("").await.unwrap_err().to_string();
    assert!(error.starts_with("it is cut short"), "{error}");
}

/// A store whose content is damaged is not exported as if it were well.
#[tokio::test]
async fn a_damaged_store_is_not_exported() {
    let mut broken = done();
    broken.result = None;
    let id = broken.job.spec.id;
    let store = store_with(vec![Record::Job(Box::new(broken))]).await;
    let exported = export(&store, &About::made_at(NOW), &mut Vec::new()).await;
    let error = exported.unwrap_err().to_string();
    let expected = format!("the store is damaged: job {id}: it succeeded and has no result");
    assert_eq!(error, expected);
    store
        .begin_import("mark", super::super::store::archive::Counters::default())
        .await
        .unwrap();
    let exported = export(&store, &About::made_at(NOW), &mut Vec::new()).await;
    assert!(
        matches!(exported, Err(MoveError::HalfImported)),
        "{exported:?}"
    );
    Store::close(&store).await;
}
