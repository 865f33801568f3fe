//! Puts what was counted into a registry of `prometheus-client`, read anew with every scrape.

use super::histogram::Histogram;
use super::store::ERROR_KINDS;
use super::{AttemptEnd, Counted, FINAL_STATES, Metrics, Rescue, StoreMetrics, TaskMetrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What jobs of tasks are counted under that are not registered.
const OTHER_TASKS: &str = "anteroom.other";
/// Microseconds in a second.
const MICROS: f64 = 1e6;

impl Metrics {
    /// Puts all that is counted into `registry`, where each scrape reads it anew. Their names
    /// begin with `anteroom_`; `docs/metrics.md` lists them.
    ///
    /// The registry keeps the numbers alive, not the engine.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Export(self.0.clone())));
    }
}

#[derive(Debug)]
struct Export(Arc<Counted>);

impl Collector for Export {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.jobs(&mut page)?;
        self.attempts(&mut page)?;
        self.spans(&mut page)?;
        page.gauge(
            "anteroom_waiters",
            "Calls that wait for a job just now",
            self.0.waiters.load(Ordering::Relaxed) as u64,
        )?;
        match &self.0.store {
            Some(store) => commits(store, &mut page),
            None => Ok(()),
        }
    }
}

impl Export {
    /// Returns the registered tasks.
    fn tasks(&self) -> impl Iterator<Item = (&str, &TaskMetrics)> {
        self.0.tasks.iter().map(|(name, task)| (&**name, &**task))
    }

    /// Returns a counter for each task and word. Tasks that are not registered have one where
    /// there is something to count.
    fn by_word<'a, T: 'a, const N: usize>(
        &'a self,
        label: &'static str,
        words: &'static [(T, &'static str); N],
        counters: fn(&TaskMetrics) -> &[AtomicU64; N],
    ) -> impl Iterator<Item = ([(&'a str, &'a str); 2], u64)> {
        let others = std::iter::once((OTHER_TASKS, &self.0.others));
        let tasks = self.tasks().chain(others);
        tasks.flat_map(move |(name, task)| {
            let each = words.iter().zip(counters(task));
            each.filter_map(move |((_, word), counter)| {
                let counted = counter.load(Ordering::Relaxed);
                let is_shown = counted > 0 || name != OTHER_TASKS;
                is_shown.then_some(([("task", name), (label, *word)], counted))
            })
        })
    }

    fn jobs(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counters(
            "anteroom_jobs_submitted",
            "Jobs that were submitted and are durable",
            self.tasks()
                .map(|(name, task)| ([("task", name)], read(&task.submitted))),
        )?;
        page.counters(
            "anteroom_jobs_finished",
            "Jobs that came to their end",
            self.by_word("state", &FINAL_STATES, |task| &task.finished),
        )?;
        page.counters(
            "anteroom_jobs_rescued",
            "Jobs that something ran out for and upkeep dealt with",
            self.by_word("reason", &Rescue::ALL, |task| &task.rescued),
        )
    }

    fn attempts(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counters(
            "anteroom_attempts_started",
            "Attempts that began on this node",
            self.tasks()
                .map(|(name, task)| ([("task", name)], read(&task.started))),
        )?;
        page.counters(
            "anteroom_attempts_ended",
            "Attempts on this node that came to their end, by what became of them",
            self.by_word("outcome", &AttemptEnd::ALL, |task| &task.ended)
                .filter(|([(_, task), _], _)| *task != OTHER_TASKS),
        )?;
        page.gauges(
            "anteroom_attempts_running",
            "Attempts that run on this node just now",
            self.tasks()
                .filter(|(_, task)| !task.is_pulled)
                .map(|(name, task)| {
                    // The ends first: what ends meanwhile then still counts as running.
                    let ended: u64 = task.ended.iter().map(read).sum();
                    let running = read(&task.started).saturating_sub(ended);
                    ([("task", name)], running)
                }),
        )
    }

    fn spans(&self, page: &mut Page<'_>) -> fmt::Result {
        for (name, help, histogram) in [
            (
                "anteroom_job_wait",
                "From a job's submit to the start of its first attempt",
                (|task| &task.wait) as fn(&TaskMetrics) -> &Histogram,
            ),
            (
                "anteroom_start_lateness",
                "From the instant that an attempt might have begun (run_at) to its start",
                |task| &task.lateness,
            ),
            (
                "anteroom_attempt_duration",
                "From an attempt's start to its outcome",
                |task| &task.duration,
            ),
        ] {
            let mut metric = page.histograms(name, help, Some(&Unit::Seconds))?;
            for (task, counted) in self.tasks() {
                let labels = [("task", task)];
                let metric = metric.encode_family(&labels)?;
                write(metric, histogram(counted), MICROS)?;
            }
        }
        Ok(())
    }
}

fn commits(store: &StoreMetrics, page: &mut Page<'_>) -> fmt::Result {
    page.counters(
        "anteroom_store_errors",
        "Calls of the store that failed",
        ERROR_KINDS
            .iter()
            .zip(&store.errors)
            .map(|(kind, counter)| ([("kind", *kind)], read(counter))),
    )?;
    for (name, help, unit, histogram, scale) in [
        (
            "anteroom_store_commit_operations",
            "Jobs inserted, claimed and changed in a commit, and other operations",
            None,
            &store.operations,
            1.0,
        ),
        (
            "anteroom_store_commit_size",
            "Bytes of inputs and results in a commit",
            Some(Unit::Bytes),
            &store.bytes,
            1.0,
        ),
        (
            "anteroom_store_commit_duration",
            "How long it took to make a commit durable",
            Some(Unit::Seconds),
            &store.commit,
            MICROS,
        ),
        (
            "anteroom_store_transaction_duration",
            "From the beginning of a transaction to its being durable",
            Some(Unit::Seconds),
            &store.transaction,
            MICROS,
        ),
    ] {
        write(
            page.histograms(name, help, unit.as_ref())?,
            histogram,
            scale,
        )?;
    }
    Ok(())
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn write(mut metric: MetricEncoder<'_>, histogram: &Histogram, scale: f64) -> fmt::Result {
    let (buckets, sum) = histogram.read(scale);
    // Of what the buckets say, so that the two never differ.
    let count = buckets.iter().map(|(_, count)| count).sum();
    let no_exemplars: Option<&HashMap<usize, _>> = None;
    metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, no_exemplars)
}

/// The page of a scrape, as it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counters<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'s str, &'s str); N], u64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'s str, &'s str); N], u64)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let kind = MetricType::Gauge;
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn histograms<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        let kind = MetricType::Histogram;
        self.0.encode_descriptor(name, help, unit, kind)
    }
}
