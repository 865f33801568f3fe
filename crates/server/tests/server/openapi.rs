//! The `OpenAPI` document against the server: whatever is answered is described, and is of the form
//! that is described, member by member.

use crate::harness::{Answer, Server, Wanted};
use axum::Router;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The document, and what was seen of it.
struct Described {
    document: Value,
    /// Fields of answers, by call and status.
    seen: BTreeMap<(String, u16), BTreeSet<String>>,
}

impl Described {
    async fn of(server: &Server) -> Self {
        let answer = server.get("/openapi.json").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let document = answer.json();
        assert_eq!(document["openapi"], "3.1.0");
        Self {
            document,
            seen: BTreeMap::new(),
        }
    }

    /// Follows references.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(link) => self.document.pointer(&link[1..]).unwrap(),
            None => value,
        }
    }

    /// Checks that an answer to a call is described, its body and its fields too.
    fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let what = format!("{method} {path}");
        let operation = &self.document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{what} is not described");
        let response = &operation["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{what} is not described: {answer:?}");
        let response = self.resolved(response);
        let fields: BTreeSet<String> = self.document["components"]["headers"]
            .as_object()
            .unwrap()
            .keys()
            .map(|name| name.to_lowercase())
            .filter(|name| answer.header(name).is_some())
            .collect();
        let empty = Map::new();
        let headers = response["headers"].as_object().unwrap_or(&empty);
        for field in fields.iter().filter(|field| *field != "content-length") {
            let is_described = headers.keys().any(|name| name.eq_ignore_ascii_case(field));
            assert!(is_described, "{what}: {field} is not described: {answer:?}");
        }
        self.check_body(&what, response, answer);
        let key = (what, answer.status);
        self.seen.entry(key).or_default().extend(fields);
    }

    fn check_body(&self, what: &str, response: &Value, answer: &Answer) {
        let Some(contents) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "{what} has a body: {answer:?}");
            return;
        };
        let content_type = answer.header("content-type").unwrap_or_default();
        let essence = content_type.split(';').next().unwrap();
        let content = contents.get(essence).or(contents.get("*/*"));
        let content = content.unwrap_or_else(|| panic!("{what}: {essence}: {answer:?}"));
        let schema = &content["schema"];
        if essence.ends_with("json") && schema.is_object() {
            let mut wrong = Vec::new();
            self.fits(schema, &answer.json(), "", &mut wrong);
            assert!(wrong.is_empty(), "{what}: {wrong:#?} in {answer:?}");
        }
    }

    /// Compares a value with a schema, and says where it differs: also where it has members that
    /// the schema does not name.
    fn fits(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let mut known = BTreeSet::new();
        let is_open = self.fits_openly(schema, value, at, wrong, &mut known);
        if let (Value::Object(members), false) = (value, is_open) {
            for name in members.keys().filter(|name| !known.contains(*name)) {
                wrong.push(format!("{at}/{name} is not described"));
            }
        }
    }

    /// Does the same, but lets members be that the schema does not name, and returns whether it
    /// lets them itself.
    fn fits_openly(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        wrong: &mut Vec<String>,
        known: &mut BTreeSet<String>,
    ) -> bool {
        let schema = self.resolved(schema);
        if let Some(all) = schema["allOf"].as_array() {
            let open: Vec<bool> = all
                .iter()
                .map(|part| self.fits_openly(part, value, at, wrong, known))
                .collect();
            return open.into_iter().all(|open| open);
        }
        if let Some(one) = schema["oneOf"].as_array() {
            let fitting = one.iter().filter(|part| {
                let mut wrong = Vec::new();
                self.fits(part, value, at, &mut wrong);
                wrong.is_empty()
            });
            if fitting.count() != 1 {
                wrong.push(format!("{at} is not one of what it may be: {value}"));
            }
            return true;
        }
        if let Some(wanted) = schema.get("type") {
            let wanted = wanted.as_array().cloned().unwrap_or(vec![wanted.clone()]);
            if !wanted
                .iter()
                .any(|word| is_of(value, word.as_str().unwrap()))
            {
                wrong.push(format!("{at} is no {wanted:?}: {value}"));
            }
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            wrong.push(format!("{at} is none of {values:?}: {value}"));
        }
        let number = value.as_f64().unwrap_or_default();
        if value.is_number()
            && (schema["minimum"]
                .as_f64()
                .is_some_and(|least| number < least)
                || schema["maximum"].as_f64().is_some_and(|most| number > most))
        {
            wrong.push(format!("{at} is out of its range: {value}"));
        }
        if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
            for (index, item) in list.iter().enumerate() {
                self.fits(items, item, &format!("{at}/{index}"), wrong);
            }
        }
        let Some(members) = value.as_object() else {
            return true;
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(name.as_str().unwrap()) {
                wrong.push(format!("{at} has no {name}"));
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            known.insert(name.clone());
            if let Some(member) = members.get(name) {
                self.fits(property, member, &format!("{at}/{name}"), wrong);
            }
        }
        if let Some(others) = schema
            .get("additionalProperties")
            .filter(|it| it.is_object())
        {
            for (name, member) in members.iter().filter(|(name, _)| !known.contains(*name)) {
                self.fits(others, member, &format!("{at}/{name}"), wrong);
            }
        }
        schema.get("additionalProperties").is_some() || schema.get("properties").is_none()
    }

    /// Checks that fields that are described do come, for every call and status that was seen.
    fn check_that_fields_come(&self) {
        // Only if a preference was applied, the job is not done, or the token has a rate.
        let at_times = [
            "preference-applied",
            "retry-after",
            "ratelimit",
            "ratelimit-policy",
            "idempotency-replayed",
        ];
        for ((what, status), seen) in &self.seen {
            let (method, path) = what.split_once(' ').unwrap();
            let operation = &self.document["paths"][path][method.to_lowercase()];
            let response = self.resolved(&operation["responses"][status.to_string()]);
            for name in response["headers"].as_object().into_iter().flatten() {
                let name = name.0.to_lowercase();
                assert!(
                    seen.contains(&name) || at_times.contains(&name.as_str()),
                    "{what} {status} is said to have {name}, and never did"
                );
            }
        }
    }
}

fn is_of(value: &Value, word: &str) -> bool {
    match word {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Calls with what is answered: status, method, path as it is described, what stands in its
/// braces (with a query, if it begins with `?`), fields of the request, and its body.
const ASKED: &str = r#"
202 POST /v1/tasks/{task}/jobs echo content-type:text/plain a
200 POST /v1/tasks/{task}/jobs echo content-type:application/json,prefer:wait=60 [1]
400 POST /v1/tasks/{task}/jobs echo?x=1 - a
400 POST /v1/tasks/{task}/jobs echo content-type:application/json [
400 POST /v1/tasks/{task}/jobs %ff - a
404 POST /v1/tasks/{task}/jobs nope - a
415 POST /v1/tasks/{task}/jobs echo content-type:text a
200 POST /v1/tasks/{task}/jobs echo?unique_key=k - -
202 POST /v1/tasks/{task}/jobs echo idempotency-key:k a
202 POST /v1/tasks/{task}/jobs echo idempotency-key:k a
422 POST /v1/tasks/{task}/jobs echo idempotency-key:k b
200 POST /v1/tasks/{task}/call echo idempotency-key:k a
202 POST /v1/tasks/{task}/call echo?delay=1h prefer:wait=0 a
502 POST /v1/tasks/{task}/call fail - a
404 POST /v1/tasks/{task}/call nope - a
202 POST /v1/jobs - content-type:application/json {"task":"echo","input":1,"delay":"1h"}
202 POST /v1/jobs - content-type:application/json,idempotency-key:e {"task":"echo","delay":"1h"}
202 POST /v1/jobs - content-type:application/json,idempotency-key:e {"task":"echo","delay":"1h"}
202 POST /v1/jobs - content-type:application/json [{"task":"echo"},{"task":"echo","priority":1}]
200 POST /v1/jobs - content-type:application/x-ndjson {"task":"echo"}
400 POST /v1/jobs - content-type:application/json [
415 POST /v1/jobs - content-type:text/plain {}
422 POST /v1/jobs - content-type:application/json [{"task":"nope"}]
422 POST /v1/jobs - content-type:application/json {"task":"echo","priority":11}
200 GET /v1/jobs/{id} DONE - -
200 GET /v1/jobs/{id} FAILED - -
200 GET /v1/jobs/{id} HELD - -
304 GET /v1/jobs/{id} DONE if-none-match:TAG -
404 GET /v1/jobs/{id} NOBODY - -
404 GET /v1/jobs/{id} nope - -
410 GET /v1/jobs/{id} GONE - -
400 GET /v1/jobs/{id} DONE?x=1 - -
200 GET /v1/jobs/{id}/result DONE - -
206 GET /v1/jobs/{id}/result DONE range:bytes=1-2 -
416 GET /v1/jobs/{id}/result DONE range:bytes=9- -
304 GET /v1/jobs/{id}/result DONE if-none-match:TAG -
202 GET /v1/jobs/{id}/result HELD - -
409 GET /v1/jobs/{id}/result FAILED - -
410 GET /v1/jobs/{id}/result GONE - -
200 GET /v1/jobs/{id}/input DONE - -
206 GET /v1/jobs/{id}/input DONE range:bytes=-2 -
304 GET /v1/jobs/{id}/input DONE if-none-match:* -
416 GET /v1/jobs/{id}/input DONE range:bytes=9- -
404 GET /v1/jobs/{id}/input NOBODY - -
200 GET /v1/jobs - - -
200 GET /v1/jobs ?page_size=1&tag.kind=x - -
400 GET /v1/jobs ?page_size=0 - -
200 GET /v1/tasks - - -
200 GET /v1/tasks/{task} typed - -
404 GET /v1/tasks/{task} nope - -
412 POST /v1/jobs/{id}/cancel LATER if-match:"0-ready" -
200 POST /v1/jobs/{id}/cancel LATER - -
404 POST /v1/jobs/{id}/cancel NOBODY - -
409 POST /v1/jobs/{id}/retry HELD - -
409 POST /v1/jobs/{id}/retry DONE - -
202 POST /v1/jobs/{id}/retry OTHER - -
409 DELETE /v1/jobs/{id} HELD - -
412 DELETE /v1/jobs/{id} DONE if-match:"0-ready" -
410 DELETE /v1/jobs/{id} GONE - -
202 POST /v1/jobs/{id}/cancel HELD - -
200 PATCH /v1/jobs/{id} LAST content-type:application/merge-patch+json {"priority":1}
412 PATCH /v1/jobs/{id} LAST content-type:application/json,if-match:"0-ready" {"priority":1}
422 PATCH /v1/jobs/{id} LAST content-type:application/json {"priority":10}
400 PATCH /v1/jobs/{id} LAST content-type:application/json {
415 PATCH /v1/jobs/{id} LAST content-type:text/plain {}
409 PATCH /v1/jobs/{id} DONE content-type:application/json {}
404 PATCH /v1/jobs/{id} NOBODY content-type:application/json {}
200 POST /v1/jobs/cancel ?tag.kind=bulk - -
400 POST /v1/jobs/cancel - - -
200 POST /v1/jobs/retry ?tag.kind=none - -
200 DELETE /v1/jobs ?tag.kind=bulk - -
200 GET /v1/jobs/{id}/events FAILED - -
404 GET /v1/jobs/{id}/events NOBODY - -
400 GET /v1/jobs/{id}/events FAILED last-event-id:nonsense -
200 GET /v1/events ?task=echo - -
400 GET /v1/events ?task=No - -
200 GET /v1/queues - - -
200 GET /v1/queues/{queue} default - -
404 GET /v1/queues/{queue} never-used - -
200 PATCH /v1/queues/{queue} other content-type:application/json {"paused":true,"max_depth":1}
412 PATCH /v1/queues/{queue} other content-type:application/json,if-match:"0" {"paused":true}
422 PATCH /v1/queues/{queue} other content-type:application/json {"paused":1}
415 PATCH /v1/queues/{queue} other content-type:text/plain {"paused":true}
200 PATCH /v1/queues/{queue} other content-type:application/json {"max_concurrency":1,"rate_limit":{"limit":100,"period":"1s"},"group_concurrency":2}
200 GET /v1/queues/{queue} other - -
422 PATCH /v1/queues/{queue} other content-type:application/json {"rate_limit":{"limit":0}}
201 PUT /v1/schedules/{schedule} s content-type:application/json {"task":"typed","cron":"0\t3\t*\t*\t*","timezone":"Europe/Berlin","input_base64":"YQ==","content_type":"text/plain","tags":{"a":"b"}}
200 PUT /v1/schedules/{schedule} s content-type:application/json {"task":"pulled","cron":"0\t3\t*\t*\t*","input":[1],"delay":"1h","unique_key":"s"}
400 PUT /v1/schedules/{schedule} s content-type:application/json {
404 PUT /v1/schedules/{schedule} anteroom.s content-type:application/json {}
412 PUT /v1/schedules/{schedule} s content-type:application/json,if-none-match:* {}
415 PUT /v1/schedules/{schedule} s content-type:text/plain {}
422 PUT /v1/schedules/{schedule} s content-type:application/json {"task":"nope","cron":"0\t3\t*\t*\t*"}
422 PUT /v1/schedules/{schedule} s content-type:application/json {"task":"echo","cron":"0\t0\t31\t2\t*"}
200 GET /v1/schedules - - -
400 GET /v1/schedules ?x=1 - -
200 GET /v1/schedules/{schedule} s - -
404 GET /v1/schedules/{schedule} nope - -
200 GET /v1/schedules/{schedule}/preview s?count=2 - -
400 GET /v1/schedules/{schedule}/preview s?count=0 - -
404 GET /v1/schedules/{schedule}/preview nope - -
202 POST /v1/schedules/{schedule}/trigger s - -
200 POST /v1/schedules/{schedule}/trigger s - -
400 POST /v1/schedules/{schedule}/trigger s?x=1 - -
404 POST /v1/schedules/{schedule}/trigger nope - -
412 DELETE /v1/schedules/{schedule} s if-match:"0" -
204 DELETE /v1/schedules/{schedule} s - -
404 DELETE /v1/schedules/{schedule} s - -
202 POST /v1/tasks/{task}/jobs echo?queue=other - a
429 POST /v1/tasks/{task}/jobs echo?queue=other - a
200 POST /v1/leases - content-type:application/json,prefer:respond-async {"tasks":["pulled"]}
204 POST /v1/leases - prefer:wait=0 -
400 POST /v1/leases ?max=1 - -
400 POST /v1/leases - content-type:application/json {
404 POST /v1/leases - content-type:application/json {"tasks":["anteroom.callback"]}
415 POST /v1/leases - - x
422 POST /v1/leases - content-type:application/json {"tasks":["echo"]}
422 POST /v1/leases - content-type:application/json {"max":0}
200 POST /v1/leases/{lease}/extend LEASE1 content-type:application/json {"progress":{"fraction":0.5}}
400 POST /v1/leases/{lease}/extend LEASE1 content-type:application/json {
409 POST /v1/leases/{lease}/extend nonsense content-type:application/json {}
415 POST /v1/leases/{lease}/extend LEASE1 - x
422 POST /v1/leases/{lease}/extend LEASE1 content-type:application/json {"lease":"1ms"}
200 POST /v1/leases/{lease}/complete LEASE1 content-type:text/plain done
400 POST /v1/leases/{lease}/complete LEASE1?x=1 - -
409 POST /v1/leases/{lease}/complete LEASE1 - other
415 POST /v1/leases/{lease}/complete LEASE1 content-type:nonsense other
200 POST /v1/leases/{lease}/fail LEASE2 content-type:application/json {"error":"broken"}
400 POST /v1/leases/{lease}/fail LEASE2 content-type:application/json {
409 POST /v1/leases/{lease}/fail nonsense content-type:application/json {"error":"broken"}
415 POST /v1/leases/{lease}/fail LEASE2 - x
422 POST /v1/leases/{lease}/fail LEASE2 content-type:application/json {}
204 POST /v1/leases/{lease}/release LEASE3 - -
400 POST /v1/leases/{lease}/release LEASE3?x=1 - -
409 POST /v1/leases/{lease}/release nonsense - -
200 POST /v1/leases/settle - content-type:application/json [{"lease":"LEASE4","action":"extend"},{"lease":"LEASE4","action":"complete","result":1},{"lease":"x","action":"release"},7]
400 POST /v1/leases/settle - content-type:application/json [
415 POST /v1/leases/settle - - x
422 POST /v1/leases/settle - content-type:application/json {}
200 GET / - - -
200 GET / - accept:text/html -
400 GET / ?x=1 - -
200 GET /livez - - -
400 GET /livez ?x=1 - -
200 GET /readyz - - -
400 GET /readyz ?x=1 - -
200 GET /metrics - - -
200 GET /metrics - accept:application/openmetrics-text -
400 GET /metrics ?x=1 - -
200 GET /problems/{slug} draining - -
200 GET /problems/{slug} draining accept:text/html -
400 GET /problems/{slug} draining?x=1 - -
404 GET /problems/{slug} nope - -
200 GET /openapi.json - - -
304 GET /openapi.json - if-none-match:* -
400 GET /openapi.json ?x=1 - -
200 GET /docs - - -
304 GET /docs - if-none-match:* -
200 GET /docs/style.css - - -
"#;

#[tokio::test]
async fn whatever_is_answered_is_as_described() {
    let server = Server::start().await;
    let mut described = Described::of(&server).await;
    let done = server.done("echo", "?tag.kind=x").await;
    let failed = server.done("fail", "").await;
    let later = server.submit("echo", "?delay=1h").await;
    let other = server.submit("echo", "?delay=1h").await;
    let last = "?delay=1h&unique_key=k&tag.kind=bulk";
    let last = server.submit("echo", last).await;
    let held = server.submit("hold", "").await;
    server.gate.arrived().await;
    for _ in 0..5 {
        server.submit("pulled", "").await;
    }
    let asked = [("content-type", "application/json")];
    let leased = server
        .send("POST", "/v1/leases", &asked, b"{\"max\":4}")
        .await;
    let leased = leased.json();
    let lease = |n: usize| leased["leases"][n]["lease"].as_str().unwrap();
    let gone = server.done("echo", "").await;
    let path = format!("/v1/jobs/{gone}");
    let deleted = server.send("DELETE", &path, &[], b"").await;
    described.check("DELETE", "/v1/jobs/{id}", &deleted);
    let path = format!("/v1/jobs/{done}");
    let answer = server.get(&path).await;
    let tag = answer.header("etag").unwrap();
    let words = [
        ("DONE", done.as_str()),
        ("FAILED", &failed),
        ("LATER", &later),
        ("OTHER", &other),
        ("LAST", &last),
        ("HELD", &held),
        ("GONE", &gone),
        ("LEASE1", lease(0)),
        ("LEASE2", lease(1)),
        ("LEASE3", lease(2)),
        ("LEASE4", lease(3)),
        ("NOBODY", "019aaa2e-7c00-7000-8000-3f0c5a1b2c3d"),
        ("TAG", tag),
    ];
    for line in ASKED.trim().lines() {
        let mut line = line.to_owned();
        for (word, value) in words {
            line = line.replace(word, value);
        }
        let [status, method, template, place, fields, body] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        let path = match template.split_once('{') {
            Some((before, _)) => {
                let after = template.split_once('}').unwrap().1;
                format!("{before}{place}{after}?{query}")
            }
            None => format!("{template}?{query}"),
        };
        let fields: Vec<(&str, &str)> = fields
            .split(',')
            .filter_map(|field| field.split_once(':'))
            .collect();
        let body = if body == "-" { "" } else { body };
        let path = path.trim_end_matches('?');
        let answer = server.send(method, path, &fields, body.as_bytes()).await;
        assert_eq!(answer.status.to_string(), status, "{line}: {answer:?}");
        described.check(method, template, &answer);
    }
    server.gate.open();
    described.check_that_fields_come();
}

#[tokio::test]
async fn examples_are_of_the_form_that_they_are_examples_of() {
    let server = Server::start().await;
    let described = Described::of(&server).await;
    let mut count = 0;
    let contents = contents(&described.document);
    for content in contents {
        let mut values: Vec<&Value> = content.get("example").into_iter().collect();
        let many = content.get("examples").and_then(Value::as_object);
        values.extend(
            many.into_iter()
                .flatten()
                .map(|(_, example)| &example["value"]),
        );
        for value in values {
            let mut wrong = Vec::new();
            if let Some(schema) = content.get("schema") {
                described.fits(schema, value, "", &mut wrong);
            }
            assert!(wrong.is_empty(), "{wrong:#?} in {value:#}");
            count += 1;
        }
    }
    assert!(count > 50, "{count} examples");
}

/// Returns everything that stands under a content type.
fn contents(value: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    if let Some(contents) = value.get("content").and_then(Value::as_object) {
        found.extend(contents.values());
    }
    match value {
        Value::Object(object) => found.extend(object.values().flat_map(contents)),
        Value::Array(list) => found.extend(list.iter().flat_map(contents)),
        _ => {}
    }
    found
}

/// The comparison itself: what it is for is to find these.
#[tokio::test]
async fn a_job_that_is_not_as_described_is_found() {
    let server = Server::start().await;
    let described = Described::of(&server).await;
    let id = server.done("fail", "").await;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    let schema = serde_json::json!({"$ref": "#/components/schemas/Job"});
    let wrong_with = |change: fn(&mut Value)| {
        let mut job = job.clone();
        change(&mut job);
        let mut wrong = Vec::new();
        described.fits(&schema, &job, "", &mut wrong);
        wrong.len()
    };
    assert_eq!(wrong_with(|_| {}), 0);
    let changes: [fn(&mut Value); 6] = [
        |job| job["new"] = Value::Null,
        |job| job["state"] = "broken".into(),
        |job| job["priority"] = 10.into(),
        |job| drop(job.as_object_mut().unwrap().remove("group")),
        |job| job["error"]["kind"] = "odd".into(),
        |job| job["errors"][0]["more"] = 1.into(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_ne!(wrong_with(change), 0, "change {index}");
    }
}

#[tokio::test]
async fn document_and_page_work_under_a_prefix() {
    let server = Server::wanted(Wanted {
        around: |router| Router::new().nest("/my/work", router),
        ..Wanted::default()
    })
    .await;
    let document = server.get("/my/work/openapi.json").await.json();
    assert_eq!(document["servers"][0]["url"], "/my/work");
    let text = document.to_string();
    assert!(text.contains("\"/my/work/problems/unknown-job\""));
    let page = server.get("/my/work/docs").await;
    let style = "href=\"/my/work/docs/style.css\"";
    assert!(page.text().contains(style), "{}", page.text());
    assert_eq!(server.get("/my/work/docs/style.css").await.status, 200);
    for link in page.text().split("href=\"").skip(1) {
        let link = link.split('"').next().unwrap();
        if let Some(id) = link.strip_prefix('#') {
            assert!(page.text().contains(&format!("id=\"{id}\"")), "{link}");
        } else {
            assert_eq!(server.get(link).await.status, 200, "{link}");
        }
    }
}

/// It has to work where there is no internet, and under a policy that lets nothing else in.
#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_runs_nothing() {
    let server = Server::start().await;
    let page = server.get("/docs").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text();
    for word in [
        "<script",
        "<style",
        "style=",
        "src=",
        "href=\"http",
        "onclick",
    ] {
        assert!(!text.contains(word), "{word}");
    }
    let css = server.get("/docs/style.css").await;
    assert!(!css.text().contains("url(") && !css.text().contains("@import"));
    let document = server.get("/openapi.json").await.json();
    for id in document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
    {
        assert!(text.contains(&format!("<article id=\"{id}\">")), "{id}");
    }
}
