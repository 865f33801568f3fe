//! Nodes, their database, what stands between them, and what is asked of all of them.

use crate::campaign::{Ground, node};
use crate::client::Client;
use crate::history::{Event, FaultKind};
use crate::keyed::{Load, Nodes};
use crate::load::{Acked, Mix};
use crate::netns::Namespace;
use crate::overlap::{Overlaps, overlaps};
use crate::pause;
use crate::proxy::Proxy;
use crate::server::{Launch, Server};
use crate::verify::{self, Tally};
use crate::worker::{LEASE, Worker};
use anteroom_pgtest::{Cluster, Shutdown};
use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

/// How long a worker stays with a node.
const STAY: Duration = Duration::from_millis(700);

/// Returns a database server of its own, or says why there is none here.
pub(super) async fn database(campaign: &str) -> anyhow::Result<Option<Arc<Cluster>>> {
    // What it promises is what a server promises by default: its commits are synced.
    match spawn_blocking(|| Cluster::start(&[])).await? {
        Ok(cluster) => Ok(Some(Arc::new(cluster))),
        Err(missing) => {
            println!("{campaign}: COULD NOT RUN: {missing}");
            Ok(None)
        }
    }
}

/// Where a campaign takes place.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) ground: Ground,
    pub(super) nodes: Vec<Node>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) database: String,
}

/// A node, and its own way to the database.
#[derive(Debug)]
pub(super) struct Node {
    launch: Launch,
    server: Option<Server>,
    found: watch::Sender<Option<String>>,
    pub(super) proxy: Proxy,
    pub(super) namespace: Option<Namespace>,
}

impl Site {
    pub(super) async fn make(
        ground: Ground,
        cluster: Arc<Cluster>,
        database: &str,
    ) -> anyhow::Result<Self> {
        let site = Self {
            ground,
            nodes: Vec::new(),
            cluster: cluster.clone(),
            database: database.to_owned(),
        };
        let sql = format!("CREATE DATABASE {database}");
        spawn_blocking(move || cluster.sql("postgres", &sql)).await?;
        Ok(site)
    }

    /// Starts another node, in a network of its own where one is given.
    pub(super) async fn add_node(&mut self, namespace: Option<Namespace>) -> anyhow::Result<()> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let own = namespace.as_ref().map_or(loopback, Namespace::node);
        let to_database = namespace.as_ref().map_or(loopback, Namespace::database);
        let port = self.cluster.port();
        let proxy = Proxy::start(to_database, port).await?;
        let direct = format!("127.0.0.1:{port}");
        let url = self.cluster.url(&self.database);
        let url = url.replace(&direct, &proxy.address().to_string());
        let number = self.nodes.len() + 1;
        let path = self.ground.path();
        // A node that is paused while it writes holds up nobody else.
        let history = path.join(format!("handlers-{number}.jsonl"));
        let arguments = [
            "--history".to_owned(),
            history.display().to_string(),
            "--listen".to_owned(),
            format!("{own}:0"),
            "--store".to_owned(),
            url,
        ];
        let launch = Launch {
            binary: self.ground.digest_binary()?,
            arguments: arguments.to_vec(),
            wrapper: namespace
                .as_ref()
                .map(Namespace::wrapper)
                .unwrap_or_default(),
            log: path.join(format!("node-{number}.log")),
        };
        self.nodes.push(Node {
            launch,
            server: None,
            found: watch::Sender::new(None),
            proxy,
            namespace,
        });
        self.start(number - 1).await
    }

    async fn start(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        let server = node.launch.start().await?;
        self.ground.up(&server);
        node.found.send_replace(Some(server.address().to_owned()));
        node.server = Some(server);
        Ok(())
    }

    /// Returns where all nodes are.
    pub(super) fn found(&self) -> Nodes {
        Nodes::new(
            self.nodes
                .iter()
                .map(|node| node.found.subscribe())
                .collect(),
        )
    }

    /// Returns where one node is.
    pub(super) fn node(&self, at: usize) -> Nodes {
        Nodes::new(vec![self.nodes[at].found.subscribe()])
    }

    pub(super) fn load(&self, mix: Mix, submitters: usize, waiters: usize) -> anyhow::Result<Load> {
        let clients = |name: &str, count| -> anyhow::Result<Vec<_>> {
            (1..=count)
                .map(|number| self.ground.client(&format!("{name}-{number}")))
                .collect()
        };
        Ok(Load::start(
            mix,
            self.found(),
            clients("submitter", submitters)?,
            clients("waiter", waiters)?,
            self.ground.draw(0..u64::MAX),
        ))
    }

    /// Starts workers that pull, each going from node to node.
    pub(super) fn start_workers(&self, count: usize) -> anyhow::Result<Workers> {
        let mut working = JoinSet::new();
        for number in 1..=count {
            let name = format!("worker-{number}");
            let client = self.ground.client(&name)?;
            let random = fastrand::Rng::with_seed(self.ground.draw(0..u64::MAX));
            let found = watch::Sender::new(None);
            let client = client.at(found.subscribe());
            let worker = Worker::new(client, name, self.ground.draw(0..u64::MAX));
            let nodes = self.found();
            working.spawn(async move {
                tokio::select! {
                    ended = worker.work() => ended,
                    () = roam(nodes, found, random) => Ok(()),
                }
            });
        }
        Ok(Workers(working))
    }

    pub(super) fn server(&self, at: usize) -> anyhow::Result<&Server> {
        self.nodes[at].server.as_ref().context("a node that runs")
    }

    /// Lets clients use a node, or another one.
    pub(super) fn show(&self, at: usize, is_up: bool) -> anyhow::Result<()> {
        let address = self.server(at)?.address().to_owned();
        self.nodes[at].found.send_replace(is_up.then_some(address));
        Ok(())
    }

    pub(super) async fn kill_and_start(&mut self, at: usize) -> anyhow::Result<()> {
        let server = self.nodes[at].server.take().context("a node that runs")?;
        self.ground.kill(server).await?;
        self.nodes[at].found.send_replace(None);
        self.start(at).await
    }

    /// Stops the database as by a crash, and starts it again.
    pub(super) async fn crash_database(&self) -> anyhow::Result<()> {
        let cluster = self.cluster.clone();
        spawn_blocking(move || cluster.restart(Shutdown::Immediate)).await?;
        self.hurt(FaultKind::Database)
    }

    /// Asks the database directly.
    pub(super) async fn sql(&self, sql: &str) -> anyhow::Result<String> {
        let (cluster, database) = (self.cluster.clone(), self.database.clone());
        let sql = sql.to_owned();
        Ok(spawn_blocking(move || cluster.sql(&database, &sql)).await?)
    }

    /// Writes down that something was hurt that all nodes feel.
    pub(super) fn hurt(&self, kind: FaultKind) -> anyhow::Result<()> {
        self.ground
            .injector
            .write(Event::Fault { kind, node: None })
    }

    /// Writes down that a node was hurt.
    pub(super) fn hurt_node(&self, kind: FaultKind, at: usize) -> anyhow::Result<()> {
        self.ground.hurt(kind, self.server(at)?)
    }

    /// Waits for the end of everything acknowledged, stops all nodes, and returns where the jobs
    /// stand and how many there are, each once.
    pub(super) async fn finish(
        &mut self,
        acked: &[Acked],
        mut workers: Workers,
    ) -> anyhow::Result<(Tally, usize)> {
        let client: Client = self.ground.client("verifier")?;
        let at = usize::try_from(self.ground.draw(0..self.nodes.len() as u64))?;
        self.ground.up(self.server(at)?);
        let tally = self.ground.drain(&client, acked).await?;
        verify::unacknowledged(&client, acked).await?;
        // Those that are late on purpose come back.
        pause(LEASE).await;
        workers.check()?;
        drop(workers);
        let jobs = self.count_jobs(acked).await?;
        self.stop_nodes().await?;
        Ok((tally, jobs))
    }

    /// Holds the database itself to what was acknowledged: every submit was tried until it was, so
    /// that there is one job for each, in one place, and nothing else.
    async fn count_jobs(&self, acked: &[Acked]) -> anyhow::Result<usize> {
        let mut ids: Vec<_> = acked.iter().map(|job| &job.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ensure!(ids.len() == acked.len(), "two submits have one job");
        let counts = "SELECT (SELECT count(*) FROM anteroom.job), (SELECT count(*) FROM anteroom.done), \
             (SELECT count(*) FROM anteroom.waiting), (SELECT count(*) FROM anteroom.running), \
             (SELECT count(*) FROM anteroom.submit)";
        let counts = self.sql(counts).await?;
        let expected = format!("{0}|{0}|0|0|{0}", ids.len());
        ensure!(
            counts == expected,
            "the database has {counts} (jobs, done, waiting, running, keys), not {expected}"
        );
        Ok(ids.len())
    }

    pub(super) async fn stop_nodes(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            let Some(mut server) = node.server.take() else {
                continue;
            };
            if !server.is_running()? {
                bail!("a node ended by itself: {}", server.last_words());
            }
            self.ground.stop(server).await?;
        }
        Ok(())
    }

    /// Returns which attempts went on beside later ones of their jobs, by node.
    pub(super) fn overlaps(&self) -> anyhow::Result<BTreeMap<String, Overlaps>> {
        let mut files = self.ground.histories()?;
        files.retain(|file| {
            let name = file.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("handlers") || name.starts_with("injector"))
        });
        overlaps(&files)
    }
}

impl Node {
    /// Returns what it is called in the histories.
    pub(super) fn name(&self) -> anyhow::Result<String> {
        let server = self.server.as_ref().context("a node that runs")?;
        Ok(node(server.pid().as_raw()))
    }

    /// Sends its process a signal.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let server = self.server.as_ref().context("a node that runs")?;
        server.signal(signal)
    }
}

/// Workers that pull.
#[derive(Debug)]
pub(super) struct Workers(JoinSet<anyhow::Result<()>>);

impl Workers {
    /// Fails if one has ended: it saw what no node may do.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_join_next() {
            Some(ended) => ended
                .context("a worker panicked")?
                .context("a worker ended"),
            None => Ok(()),
        }
    }
}

/// Goes from node to node.
async fn roam(nodes: Nodes, found: watch::Sender<Option<String>>, mut random: fastrand::Rng) {
    loop {
        let address = nodes.draw(&mut random).borrow().clone();
        if address.is_some() {
            found.send_replace(address);
        }
        pause(STAY).await;
    }
}
