//! Documents are kept as they were written, and changed only from the version that was seen.

use super::Trial;
use super::trial::{done, name, soon};
use crate::store::{Document, DocumentChange, DocumentPut};
use anteroom_core::limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX};
use bytes::Bytes;
use tokio::task::JoinSet;

fn change(document: &str, value: &[u8]) -> DocumentChange {
    DocumentChange {
        kind: name("kind"),
        name: name(document),
        value: Some(Bytes::copy_from_slice(value)),
        if_version: None,
    }
}

fn removal(document: &str) -> DocumentChange {
    DocumentChange {
        value: None,
        ..change(document, b"")
    }
}

async fn put_all(trial: &Trial, changes: Vec<DocumentChange>) -> Vec<DocumentPut> {
    done("put_documents", trial.store().put_documents(changes).await)
}

/// Makes a change that must not be refused, and returns the version that it gives.
async fn put(trial: &Trial, change: DocumentChange) -> u64 {
    match put_all(trial, vec![change]).await.as_slice() {
        [DocumentPut::Done(version)] => version.unwrap_or(0),
        other => panic!("putting a document came to {other:?}"),
    }
}

async fn one(trial: &Trial, kind: &str, document: &str) -> Option<Document> {
    let found = trial.store().document(&name(kind), &name(document)).await;
    done("document", found)
}

async fn all(trial: &Trial, kind: &str) -> Vec<Document> {
    done("documents", trial.store().documents(&name(kind)).await)
}

/// Documents are found by kind and name, told by name, byte for byte as they were written.
pub async fn documents_are_kept_byte_for_byte(trial: &mut Trial) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let largest: Vec<u8> = every_byte
        .iter()
        .copied()
        .cycle()
        .take(DOCUMENT_BYTES_MAX)
        .collect();
    let values = [("b", &every_byte[..]), ("a", b""), ("c", &largest)];
    assert_eq!(all(trial, "kind").await, []);
    for (document, value) in values {
        put(trial, change(document, value)).await;
    }
    let elsewhere = DocumentChange {
        kind: name("other"),
        ..change("a", b"elsewhere")
    };
    put(trial, elsewhere).await;
    for (document, value) in values {
        let found = one(trial, "kind", document).await;
        assert_eq!(
            found.map(|found| found.value),
            Some(value.to_vec().into()),
            "{document}"
        );
    }
    let names: Vec<_> = all(trial, "kind")
        .await
        .into_iter()
        .map(|found| found.name)
        .collect();
    assert_eq!(names, [name("a"), name("b"), name("c")]);
    assert_eq!(one(trial, "kind", "d").await, None);
    assert_eq!(one(trial, "third", "a").await, None);
    assert_eq!(all(trial, "other").await[0].value, "elsewhere");
    put(trial, removal("a")).await;
    assert_eq!(one(trial, "kind", "a").await, None);
    assert!(one(trial, "other", "a").await.is_some());
}

/// A change for another version than the one that is kept is refused and changes nothing; no version is
/// given twice, also where a document was removed and written anew.
pub async fn a_change_of_another_version_of_a_document_is_refused(trial: &mut Trial) {
    let at = |version, change| DocumentChange {
        if_version: Some(version),
        ..change
    };
    let first = put(trial, at(0, change("a", b"1"))).await;
    let refused = put_all(
        trial,
        vec![
            at(0, change("a", b"x")),
            at(first + 1, change("a", b"x")),
            at(first + 1, removal("a")),
            at(first, change("b", b"x")),
        ],
    )
    .await;
    let differs = |version| DocumentPut::VersionDiffers(version);
    let kept = Some(first);
    let expected = [differs(kept), differs(kept), differs(kept), differs(None)];
    assert_eq!(refused, expected);
    assert_eq!(all(trial, "kind").await.len(), 1);
    let second = put(trial, at(first, change("a", b"2"))).await;
    put(trial, at(second, removal("a"))).await;
    let third = put(trial, at(0, change("a", b"3"))).await;
    assert!(
        first < second && second < third,
        "{first}, {second}, {third}"
    );
    let expected = Document {
        name: name("a"),
        version: third,
        value: "3".into(),
    };
    assert_eq!(one(trial, "kind", "a").await, Some(expected));
}

/// Of several changes at once for one version, one is made.
pub async fn of_several_changes_of_a_document_at_once_one_is_made(trial: &mut Trial) {
    let mut changes = JoinSet::new();
    for number in 0..8_u8 {
        let store = trial.store().clone();
        let first = DocumentChange {
            if_version: Some(0),
            ..change("a", &[number])
        };
        changes.spawn(async move { (number, store.put_documents(vec![first]).await) });
    }
    let answers = soon("the changes", changes.join_all()).await;
    let made: Vec<u8> = answers
        .into_iter()
        .map(|(number, put)| (number, done("put_documents", put).remove(0)))
        .filter(|(_, put)| matches!(put, DocumentPut::Done(_)))
        .map(|(number, _)| number)
        .collect();
    let kept = one(trial, "kind", "a").await.map(|kept| kept.value);
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(kept, Some(made.into()));
}

/// There are bounds to how large a document is and to how many there are of a kind.
pub async fn documents_are_bounded_in_size_and_number(trial: &mut Trial) {
    let too_large = change("large", &vec![0; DOCUMENT_BYTES_MAX + 1]);
    assert_eq!(
        put_all(trial, vec![too_large]).await,
        [DocumentPut::TooLarge]
    );
    let fill = (0..DOCUMENTS_MAX).map(|n| change(&format!("d{n}"), b"x"));
    let filled = put_all(trial, fill.collect()).await;
    assert!(
        filled
            .iter()
            .all(|put| matches!(put, DocumentPut::Done(Some(_))))
    );
    assert_eq!(
        put_all(trial, vec![change("more", b"x")]).await,
        [DocumentPut::TooMany]
    );
    put(trial, change("d7", b"y")).await;
    let elsewhere = DocumentChange {
        kind: name("other"),
        ..change("more", b"x")
    };
    put(trial, elsewhere).await;
    put(trial, removal("d7")).await;
    put(trial, change("more", b"x")).await;
    assert_eq!(all(trial, "kind").await.len(), DOCUMENTS_MAX);
}

/// Documents survive a reopen, and versions go on to rise after it.
pub async fn documents_survive_a_reopen(trial: &mut Trial) {
    put(trial, change("a", b"1")).await;
    put(trial, change("b", b"2")).await;
    let last = put(trial, change("c", b"3")).await;
    put(trial, removal("c")).await;
    let before = all(trial, "kind").await;
    if !trial.reopen().await {
        return;
    }
    assert_eq!(all(trial, "kind").await, before);
    let next = put(trial, change("c", b"4")).await;
    assert!(next > last, "{next} after {last}");
}
