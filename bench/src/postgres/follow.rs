//! The side of a contender that is part of this program: it is told orders on its standard input, and
//! says on its standard output what it has done.

use super::contender::Who;
use super::embedded::Embedded;
use super::order::{Done, Order};
use super::over_http::OverHttp;
use super::raw::Raw;
use anyhow::Context;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Does as it is told.
pub(crate) trait Follow {
    /// Returns what it is, in a few words.
    fn version(&self) -> String;

    /// Does what an order says. An order to idle is done once it idles.
    async fn follow(&mut self, order: Order) -> anyhow::Result<Done>;

    /// Looks whether what was done is there.
    async fn check(&mut self) -> anyhow::Result<()>;
}

/// Is a contender, until its standard input ends.
///
/// # Errors
///
/// When anything fails: a figure of what went wrong is none.
pub(crate) async fn run(who: Who, concurrency: usize) -> anyhow::Result<()> {
    let mut lines = lines();
    let url = lines
        .recv()
        .await
        .context("standard input ended before a URL")?;
    match who {
        Who::Raw => obey(Raw::start(&url).await?, lines).await,
        Who::Embedded => obey(Embedded::start(&url, concurrency).await?, lines).await,
        Who::Http => obey(OverHttp::start(&url, concurrency)?, lines).await,
        Who::Graphile | Who::Boss => anyhow::bail!("{} is no part of this program", who.name()),
    }
}

async fn obey(
    mut contender: impl Follow,
    mut lines: UnboundedReceiver<String>,
) -> anyhow::Result<()> {
    println!("ready {}", contender.version());
    while let Some(line) = lines.recv().await {
        contender.follow(Order::parse(&line)?).await?.say();
        contender.check().await?;
        println!("well");
    }
    Ok(())
}

/// Reads standard input, on a thread that ends with it.
fn lines() -> UnboundedReceiver<String> {
    let (tell, told) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}
