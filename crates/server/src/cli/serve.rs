//! `anteroom serve`: opens the store, starts the engine, serves, and stops as it was asked to.

use super::{ServeArgs, Stopped, load};
use crate::config::{Config, Environment, Flags, RunnerConfig, StoreUrl, TaskConfig};
use crate::logging;
use anteroom::clock::Clock;
use anteroom::core::Name;
use anteroom::run::callback::CallbackRunner;
use anteroom::run::client::Client;
use anteroom::run::exec::{Exec, ExecRunner, Launcher};
use anteroom::run::push::{Push, PushRunner};
use anteroom::run::targets::Targets;
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;
#[cfg(feature = "postgres")]
use anteroom::store::postgres::{PostgresOptions, PostgresStore};
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Callbacks, Engine, Options, Task, TaskRunner};
use anteroom_server::http::browsers::{Guard, loopback_guard};
use anteroom_server::http::serve::{ServeLimits, serve as serve_http};
use anteroom_server::http::{RouterOptions, router};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Display;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// The exit code after a second signal: what shells show for Ctrl-C.
const EXIT_SECOND_SIGNAL: u8 = 130;
/// Open descriptors: one for each of 10,000 connections, six for each of 10,000 attempts, and room
/// for the rest. Not more, as the server's programs inherit the limit, and some count up to it.
const DESCRIPTORS_MAX: u64 = 100_000;

/// Serves until it is told to stop, or cannot go on.
pub(super) fn run(args: ServeArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    let flags = Flags {
        config: args.config,
        listen: args.listen,
        store: args.store,
        insecure: args.insecure,
    };
    let config = load(&flags, environment)?.config;
    logging::start(config.log.clone(), config.log_format).map_err(failure("cannot log"))?;
    let runtime = Runtime::new().map_err(failure("cannot start"))?;
    let done = runtime.block_on(serve(&config, args.hold, environment));
    // Whoever is still at it after the drain, or after a second signal, is not waited for.
    runtime.shutdown_background();
    done
}

async fn serve(
    config: &Config,
    hold: bool,
    environment: &Environment,
) -> Result<ExitCode, Stopped> {
    let mut signals = Signals::new().map_err(failure("cannot listen for signals"))?;
    raise_descriptors();
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(failure(&format!("cannot listen on {}", config.listen)))?;
    let address = listener
        .local_addr()
        .map_err(failure("cannot tell the address"))?;
    let engine = tokio::select! {
        started = start_engine(config, hold, environment, address) => started?,
        name = signals.next() => {
            // Nothing was acknowledged yet, and an open store survives the end of its process.
            info!(signal = name, "stopped after {name} while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if hold {
        info!("every queue is paused until it is resumed: the server was started with --hold");
    }
    let http = Http::start(config, engine.clone(), listener, address);
    if config.tokens.is_empty() && !is_loopback(address) {
        warn!("there are no tokens: anybody who reaches {address} may do anything");
    }
    // In one piece: whoever waits for it may read what is there.
    let line = format!("listening on http://{address}\n");
    eprint!("{line}");
    let stopping = tokio::select! {
        name = signals.next() => name,
        failed = engine.failed() => {
            error!(error = %failed, "stopping at once: {failed}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let grace = config.shutdown_grace;
    info!(
        signal = stopping,
        grace = ?grace,
        "draining after {stopping}: running attempts get {grace:?}"
    );
    let drained = async {
        engine.stop(grace).await;
        http.stop().await;
        engine.close().await;
    };
    tokio::select! {
        () = drained => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        name = signals.next() => {
            info!(signal = name, "stopping at once after {name}");
            Ok(ExitCode::from(EXIT_SECOND_SIGNAL))
        }
        failed = engine.failed() => {
            error!(error = %failed, "stopping at once: {failed}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Raises the soft limit of open descriptors, usually 1,024, as far as the system lets it and the
/// server can use it.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let raised = soft.max(hard.min(DESCRIPTORS_MAX));
        setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?;
        Ok((soft, raised))
    });
    match raised {
        Ok((soft, raised)) => debug!(soft, raised, "may open {raised} descriptors, before {soft}"),
        Err(error) => warn!(%error, "cannot raise the limit of open descriptors: {error}"),
    }
}

async fn start_engine(
    config: &Config,
    hold: bool,
    environment: &Environment,
    address: SocketAddr,
) -> Result<Engine, Stopped> {
    // One for all tasks, so that those with the same service share its connections.
    let client = Client::new(Targets::anywhere());
    let tasks = config
        .tasks
        .iter()
        .map(|(name, task)| build_task(name, task, config, environment, &client))
        .collect::<Result<_, _>>()?;
    let options = Options {
        retain: config.retain,
        input_bytes_max: config.max_input,
        result_bytes_max: config.max_result,
        queues: config.queues.clone(),
        strict_queues: config.strict_queues,
        hold,
        callbacks: Some(callbacks(config, address)),
        schedules: config.schedules.clone(),
        ..Options::default()
    };
    let store = open_store(&config.store).await?;
    Engine::start(store, tasks, options)
        .await
        .map_err(failure("cannot start"))
}

/// Returns who sends callbacks. Clients choose where they go, so that is bounded; who reaches a server
/// on loopback that asks for no token reaches other services there, too.
fn callbacks(config: &Config, address: SocketAddr) -> Callbacks {
    let is_local = is_loopback(address) && config.tokens.is_empty();
    // One for each, so that names that are slow to resolve hold up submits and no callbacks.
    let targets = || Targets::public(config.callback_networks.clone(), is_local);
    let client = Client::new(targets());
    Callbacks {
        runner: Arc::new(CallbackRunner::new(client, config.webhook_secrets.clone())),
        targets: Arc::new(targets()),
    }
}

async fn open_store(url: &StoreUrl) -> Result<Arc<dyn Store>, Stopped> {
    let cannot = format!("cannot open {url}");
    match url {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(Clock::system()))),
        StoreUrl::Sqlite(path) => {
            // It may be long at it, with a large journal to take in or a slow disk: on a thread of
            // its own, so that signals are heard.
            let path = path.clone();
            let opened = spawn_blocking(move || SqliteStore::open(path, Clock::system())).await;
            let store = opened.map_err(failure(&cannot))?;
            Ok(Arc::new(store.map_err(failure(&cannot))?))
        }
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => {
            let options = PostgresOptions::default();
            let store = PostgresStore::open((**url).clone(), options).await;
            Ok(Arc::new(store.map_err(failure(&cannot))?))
        }
    }
}

/// Turns a task of the configuration into one of the engine.
fn build_task(
    name: &Name,
    task: &TaskConfig,
    config: &Config,
    environment: &Environment,
    client: &Client,
) -> Result<Task, Stopped> {
    let runner = match &task.runner {
        RunnerConfig::Pull => TaskRunner::Pull,
        RunnerConfig::Push { url } => {
            let push = Push {
                url: url.clone(),
                secrets: config.webhook_secrets.clone(),
                result_bytes_max: config.max_result,
                client: client.clone(),
            };
            let runner = PushRunner::new(push).map_err(failure(&format!("task {name}: push")))?;
            TaskRunner::Here(Arc::new(runner))
        }
        RunnerConfig::Exec(exec) => {
            let inherited = exec.env_inherit.iter().map(|name| &**name);
            let exec = Exec {
                argv: exec.command.clone(),
                env: exec.env.clone(),
                env_inherit: environment.inherited(["PATH"].into_iter().chain(inherited)),
                current_dir: Some(exec.current_dir.clone()),
                limits: exec.limits.clone(),
                user: exec.user,
                new_privileges: exec.new_privileges,
                kill_grace: task.kill_grace,
                result_content_type: exec.result_content_type.clone(),
                result_bytes_max: config.max_result,
                launcher: Some(Launcher::this_binary()),
            };
            let runner = ExecRunner::new(exec).map_err(failure(&format!("task {name}")))?;
            TaskRunner::Here(Arc::new(runner))
        }
    };
    Ok(Task {
        name: name.clone(),
        runner,
        queue: task.queue.clone(),
        timeout: task.timeout,
        max_attempts: task.max_attempts,
        retry: task.backoff,
        concurrency: task.concurrency,
        kill_grace: task.kill_grace,
        content_type: task.content_type.clone(),
        validator: task.schema.as_ref().map(|schema| schema.validator.clone()),
    })
}

/// Returns what makes a failure out of an error, with what it means before it.
fn failure<E: Display>(what: &str) -> impl FnOnce(E) -> Stopped {
    move |error| Stopped::Failure(format!("{what}: {error}"))
}

/// Tells whether an address is reached from this machine alone.
const fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The accept loop, owned until it has ended.
struct Http {
    stopping: CancellationToken,
    accepting: JoinSet<()>,
}

impl Http {
    fn start(config: &Config, engine: Engine, listener: TcpListener, address: SocketAddr) -> Self {
        let options = RouterOptions {
            max_buffered: config.max_buffered,
            max_bulk: config.max_bulk,
            tokens: config.tokens.clone(),
            ..RouterOptions::default()
        };
        let limits = ServeLimits {
            metrics: options.metrics.clone(),
            ..ServeLimits::default()
        };
        let guard = Guard {
            is_loopback: is_loopback(address),
            allowed_origins: config.allowed_origins.clone(),
            has_tokens: !config.tokens.is_empty(),
        };
        let router = loopback_guard(router(engine, &options), guard);
        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        let mut accepting = JoinSet::new();
        accepting.spawn(serve_http(listener, router, limits, stopped));
        Self {
            stopping,
            accepting,
        }
    }

    /// Stops listening, and waits for the answers under way.
    async fn stop(mut self) {
        self.stopping.cancel();
        while self.accepting.join_next().await.is_some() {}
    }
}

/// The signals that stop a server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one, and returns its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
