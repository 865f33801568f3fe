//! The document against the code: its copy, the route table, and the kinds of problem.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;

fn document_as_json() -> Value {
    serde_json::from_str(&pretty()).unwrap()
}

/// Calls `see` with every object within `value`.
fn visit(value: &Value, see: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            see(object);
            object.values().for_each(|value| visit(value, see));
        }
        Value::Array(list) => list.iter().for_each(|value| visit(value, see)),
        _ => {}
    }
}

/// Returns each operation with its method and path.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

#[test]
fn the_copy_for_readers_is_what_the_code_says() {
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let copy = std::fs::read_to_string(copy).unwrap();
    assert!(
        copy == pretty(),
        "docs/openapi.json is not what the code says; write it anew:\n    \
         cargo run -q -p anteroom-server -- openapi > docs/openapi.json"
    );
}

#[test]
fn every_route_is_described_and_every_description_is_of_a_route() {
    let described: BTreeSet<(String, String)> = operations(&document_as_json())
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let routed: BTreeSet<(String, String)> = crate::http::route_table()
        .into_iter()
        .map(|route| (route.method.to_string(), route.path.to_owned()))
        .collect();
    let missing: Vec<_> = routed.difference(&described).collect();
    let invented: Vec<_> = described.difference(&routed).collect();
    assert!(
        missing.is_empty(),
        "not described in http/openapi: {missing:?}"
    );
    assert!(invented.is_empty(), "described, and no route: {invented:?}");
}

#[test]
fn every_kind_of_problem_is_named_at_a_status() {
    let document = document_as_json();
    let mut named = BTreeSet::new();
    visit(&document["paths"], &mut |object| {
        let Some(link) = object.get("$ref").and_then(Value::as_str) else {
            return;
        };
        if let Some(name) = link.strip_prefix("#/components/responses/") {
            named.extend(types_in(&document["components"]["responses"][name]));
        }
    });
    named.extend(types_in(&document["paths"]));
    // A call of the document takes its method: this one is named among the components alone.
    named.extend(types_in(
        &document["components"]["responses"]["MethodNotAllowed"],
    ));
    for kind in Kind::ALL {
        let slug = format!("/problems/{}", kind.slug());
        assert!(named.contains(&slug), "no call is said to answer {slug}");
    }
}

/// Returns the types of problems that stand within `value`.
fn types_in(value: &Value) -> Vec<String> {
    let mut types = Vec::new();
    visit(value, &mut |object| {
        for value in object
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            types.extend(
                value
                    .as_str()
                    .filter(|text| text.starts_with("/problems/"))
                    .map(str::to_owned),
            );
        }
    });
    types
}

#[test]
fn every_reference_leads_somewhere_and_no_component_is_left_over() {
    let document = document_as_json();
    let mut used = BTreeSet::new();
    visit(&document, &mut |object| {
        if let Some(link) = object.get("$ref").and_then(Value::as_str) {
            let pointer = link.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{link} leads nowhere");
            used.insert(pointer.to_owned());
        }
    });
    for (sort, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let pointer = format!("/components/{sort}/{name}");
            let by_name = ["securitySchemes"].contains(&sort.as_str())
                || ["MethodNotAllowed", "Allow"].contains(&name.as_str());
            assert!(
                by_name || used.contains(&pointer),
                "{pointer} is used nowhere"
            );
        }
    }
}

#[test]
fn every_operation_says_what_it_is() {
    let document = document_as_json();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        for member in ["operationId", "summary", "description"] {
            let text = operation[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{what} has no {member}");
        }
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "{what} shares its operationId");
        assert!(
            tags.contains(operation["tags"][0].as_str().unwrap()),
            "{what} has an unknown tag"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{what} never does well"
        );
        assert!(operation["security"].is_array(), "{what} has no security");
        let named: BTreeSet<&str> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let taken: BTreeSet<String> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|parameter| parameter["$ref"].as_str()?.split("path.").nth(1))
            .map(str::to_owned)
            .collect();
        assert!(
            named.iter().all(|name| taken.contains(*name)),
            "{what} takes {taken:?}"
        );
    }
}

#[test]
fn the_prefix_stands_in_every_link_and_no_marker_is_left() {
    for prefix in ["", "/work"] {
        let text = mounted(compact(), prefix);
        assert!(!text.contains(MOUNT) && !text.contains(SERVER));
        let document: Value = serde_json::from_str(&text).unwrap();
        let server = if prefix.is_empty() { "/" } else { prefix };
        assert_eq!(document["servers"][0]["url"], server);
        assert!(text.contains(&format!("\"{prefix}/problems/unknown-job\"")));
        assert!(text.contains(&format!("\"{prefix}/v1/jobs/")));
    }
}
