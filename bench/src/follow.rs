//! The side of a contender that is a program in Rust: it is told orders on its standard input, and says
//! on its standard output what it has done.

use crate::order::{Done, Order};
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

/// What a contender is told, line by line.
#[derive(Debug)]
pub(crate) struct Told(UnboundedReceiver<String>);

impl Told {
    /// Reads standard input, on a thread that ends with it.
    pub(crate) fn read() -> Self {
        let (tell, told) = unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self(told)
    }

    /// Returns the first line: where to work.
    pub(crate) async fn place(&mut self) -> anyhow::Result<String> {
        let place = self.0.recv().await;
        place.context("standard input ended before it was told where to work")
    }

    /// Has a contender follow what else is told, until standard input ends.
    ///
    /// # Errors
    ///
    /// When anything fails: a figure of what went wrong is none.
    pub(crate) async fn obey(mut self, mut contender: impl Follow) -> anyhow::Result<()> {
        println!("ready {}", contender.version());
        while let Some(line) = self.0.recv().await {
            contender.follow(Order::parse(&line)?).await?.say();
            contender.check().await?;
            println!("well");
        }
        Ok(())
    }
}
