//! `GET /metrics`: all that is counted, for whoever scrapes it.
//!
//! `OpenMetrics` for those who ask for it, and the text format of Prometheus for everybody else. How
//! many jobs there are is asked of the store with each scrape; where it does not answer, the rest
//! is told without it.

use super::App;
use super::call::Call;
use super::limits::{COUNTED_QUEUES_MAX, READY_TIMEOUT};
use super::problem::{Kind, Problem};
use anteroom::Engine;
use anteroom::store::Counts;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use tokio::time::timeout;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What jobs of further queues are counted under: no queue of a client's can have this name.
const OTHER_QUEUES: &str = "anteroom.other";
const STATES: [&str; 3] = ["scheduled", "ready", "running"];

/// `GET /metrics`.
pub(crate) async fn metrics(app: App, call: Call) -> Result<Response, Problem> {
    call.no_query()?;
    let asked = timeout(READY_TIMEOUT, app.engine.store().counts()).await;
    let depth = match asked {
        Ok(Ok(counts)) => Some(depth_of(&app.engine, &counts)),
        Ok(Err(_)) | Err(_) => None,
    };
    let mut now = Registry::default();
    now.register_collector(Box::new(Now { depth }));
    let mut page = String::new();
    let written = encode_registry(&mut page, &app.registry)
        .and_then(|()| encode_registry(&mut page, &now))
        .and_then(|()| encode_eof(&mut page));
    if written.is_err() {
        let detail = "the metrics could not be written";
        return Err(Problem::new(Kind::InternalError, detail));
    }
    let is_open = prefers_open_metrics(call.headers());
    let (page, kind) = if is_open {
        (page, OPEN_METRICS)
    } else {
        (to_prometheus(&page), PROMETHEUS)
    };
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// How many unfinished jobs a queue has in each state.
type Depth = BTreeMap<String, [u64; STATES.len()]>;

/// Adds up what the store counted. The queues of registered tasks are always there, others while
/// they have jobs, and the server's own never.
fn depth_of(engine: &Engine, counts: &[Counts]) -> Depth {
    let queues = engine.tasks().map(|task| task.queue.to_string());
    let mut depth: Depth = queues.map(|queue| (queue, [0; STATES.len()])).collect();
    for counted in counts.iter().filter(|of| !of.queue.is_reserved()) {
        let is_new = !depth.contains_key(&*counted.queue);
        let queue = if is_new && depth.len() >= COUNTED_QUEUES_MAX {
            OTHER_QUEUES
        } else {
            &counted.queue
        };
        let sums = depth.entry(queue.to_owned()).or_default();
        let counted = [counted.scheduled, counted.ready, counted.running];
        for (sum, counted) in sums.iter_mut().zip(counted) {
            *sum += counted;
        }
    }
    depth
}

/// What is looked at with each scrape.
#[derive(Debug)]
struct Now {
    /// None where the store did not say.
    depth: Option<Depth>,
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = MetricType::Gauge;
        let help = "The version of the server; always 1";
        let mut metric = encoder.encode_descriptor("anteroom_build_info", help, None, gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_u64).encode(metric.encode_family(&labels)?)?;
        let help = "Whether the store told how many jobs there are";
        let metric = encoder.encode_descriptor("anteroom_store_up", help, None, gauge)?;
        ConstGauge::new(u64::from(self.depth.is_some())).encode(metric)?;
        let help = "Unfinished jobs, by queue and state";
        let mut metric = encoder.encode_descriptor("anteroom_queue_jobs", help, None, gauge)?;
        for (queue, sums) in self.depth.iter().flatten() {
            for (state, sum) in STATES.iter().zip(sums) {
                let labels = [("queue", &**queue), ("state", *state)];
                ConstGauge::new(*sum).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Turns `OpenMetrics` into the text format 0.0.4: there a counter is named with its `_total`, and
/// there are no units and no last line.
fn to_prometheus(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut help = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let total = if kind == "counter" { "_total" } else { "" };
            let lines = [
                "# HELP ",
                name,
                total,
                " ",
                help,
                "\n# TYPE ",
                name,
                total,
                " ",
                kind,
                "\n",
            ];
            text.extend(lines);
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Tells whether a client names `OpenMetrics` and likes it no less than plain text.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let (mut open, mut text) = (0.0_f32, 0.0_f32);
    for field in headers.get_all(header::ACCEPT) {
        for range in field.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|it| it.split_once('=')).collect();
            let parameter = |wanted: &str| {
                let named = parameters.iter();
                let mut named = named.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
                named.next().map(|(_, value)| value.trim_matches('"'))
            };
            let quality = parameter("q").map_or(1.0, |text| text.parse().unwrap_or(1.0));
            let is_ours = parameter("version").is_none_or(|version| version == "1.0.0");
            match name.as_str() {
                "application/openmetrics-text" if is_ours => open = open.max(quality),
                "text/plain" => text = text.max(quality),
                _ => {}
            }
        }
    }
    open > 0.0 && open >= text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.1";
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            (prometheus_2, true),
            (prometheus_3, true),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", true),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;q=0", false),
            (
                "application/openmetrics-text;q=0.2, text/plain;q=0.9",
                false,
            ),
        ] {
            let value = HeaderValue::from_str(accept).unwrap();
            let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
            assert_eq!(prefers_open_metrics(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn in_the_text_format_a_counter_is_named_with_its_suffix() {
        let page = "# HELP a_b What is.\n# TYPE a_b counter\na_b_total{c=\"d\"} 1\n\
                    # HELP e_seconds Time.\n# TYPE e_seconds histogram\n# UNIT e_seconds seconds\n\
                    e_seconds_sum 2.5\n# EOF\n";
        let expected = "# HELP a_b_total What is.\n# TYPE a_b_total counter\na_b_total{c=\"d\"} 1\n\
                        # HELP e_seconds Time.\n# TYPE e_seconds histogram\ne_seconds_sum 2.5\n";
        assert_eq!(to_prometheus(page), expected);
    }
}
