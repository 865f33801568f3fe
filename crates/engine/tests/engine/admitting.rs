//! Submissions that are checked first and stored later, and inputs that a task has checked.

use crate::harness::*;
use anteroom::core::{Name, Payload};
use anteroom::run::{Runner, function};
use anteroom::store::{Filter, Page, Store};
use anteroom::{Engine, Invalid, Submission, SubmitError, Task, Validate};
use std::sync::Arc;

/// Takes digits only.
#[derive(Debug)]
struct Digits;

impl Validate for Digits {
    fn check(&self, input: &[u8]) -> Vec<Invalid> {
        let wrong = input.iter().position(|byte| !byte.is_ascii_digit());
        let invalid = wrong.map(|at| Invalid {
            pointer: format!("/{at}"),
            detail: "is no digit".to_owned(),
        });
        invalid.into_iter().collect()
    }

    fn schema(&self) -> Option<&str> {
        None
    }
}

fn runner() -> Arc<dyn Runner> {
    function::bytes(|_| async { done("ok") })
}

async fn checking() -> (Arc<dyn Store>, Engine) {
    let store = store();
    let digits = Task {
        validator: Some(Arc::new(Digits)),
        ..task("digits", runner())
    };
    let engine = start(&store, vec![task("work", runner()), digits]).await;
    (store, engine)
}

fn json(task: &str, content_type: &str, input: String) -> Submission {
    let input = Payload {
        content_type: content_type.into(),
        bytes: input.into(),
    };
    Submission::new(Name::new(task).unwrap(), input)
}

async fn count(store: &Arc<dyn Store>) -> usize {
    let page = Page {
        size: 100,
        after: None,
    };
    store
        .list(&Filter::default(), page)
        .await
        .unwrap()
        .jobs
        .len()
}

#[tokio::test]
async fn what_is_admitted_is_stored_together_and_in_its_order() {
    let (store, engine) = checking().await;
    let mut admitted = Vec::new();
    for number in 0..3 {
        admitted.push(engine.admit(submission(&number.to_string())).await.unwrap());
    }
    let unknown = engine
        .admit(json("nope", "text/plain", String::new()))
        .await;
    assert!(
        matches!(unknown, Err(SubmitError::UnknownTask { .. })),
        "{unknown:?}"
    );
    assert!(admitted.iter().all(|it| &**it.queue() == "default"));
    assert_eq!(count(&store).await, 0, "nothing is stored yet");
    let submitted = engine.submit_admitted(admitted).await.unwrap();
    let ids: Vec<_> = submitted.iter().map(|it| it.job.spec.id).collect();
    assert!(ids.is_sorted());
    for (number, id) in ids.iter().enumerate() {
        let input = store.input(*id).await.unwrap().here().unwrap();
        assert_eq!(input.bytes, number.to_string());
    }
}

#[tokio::test]
async fn no_more_are_stored_together_than_a_submit_may_hold() {
    let (store, engine) = checking().await;
    let one = engine.admit(submission("")).await.unwrap();
    let refused = engine.submit_admitted(vec![one; 10_001]).await;
    let limit = |error: &SubmitError| matches!(error, SubmitError::TooMany { limit: 10_000, .. });
    assert!(refused.as_ref().is_err_and(limit), "{refused:?}");
    assert_eq!(count(&store).await, 0);
}

/// However a job comes in, and on whichever thread its input is checked.
#[tokio::test]
async fn an_input_that_its_task_refuses_is_not_taken() {
    let (store, engine) = checking().await;
    for length in [3, 100_000] {
        let good = "7".repeat(length);
        let bad = format!("{good}x");
        let of = |input: &str| json("digits", "application/json", input.to_owned());
        let refusals = [
            engine.submit(of(&bad)).await.map(|_| ()),
            engine.submit_and_watch(of(&bad)).await.map(|_| ()),
            engine
                .submit_all(vec![of(&good), of(&bad)])
                .await
                .map(|_| ()),
            engine.admit(of(&bad)).await.map(|_| ()),
        ];
        for refusal in refusals {
            match refusal {
                Err(SubmitError::InvalidInput { task, errors }) => {
                    assert_eq!(&*task, "digits");
                    assert_eq!(errors[0].pointer, format!("/{length}"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(count(&store).await, 0);
    }
    engine
        .submit(json("digits", "text/x+json; a=b", "1".to_owned()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_task_that_has_its_inputs_checked_takes_json_only() {
    let (store, engine) = checking().await;
    for content_type in ["text/plain", "", "application/jsonx", "+json/x"] {
        let refused = engine
            .submit(json("digits", content_type, "1".to_owned()))
            .await;
        match refused {
            Err(SubmitError::ContentType { expected, .. }) => {
                assert_eq!(expected, "application/json");
            }
            other => panic!("{content_type}: {other:?}"),
        }
    }
    assert_eq!(count(&store).await, 0);
}
