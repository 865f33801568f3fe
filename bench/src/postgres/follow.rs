//! Who of those on `PostgreSQL` is part of this program.

use super::contender::Who;
use super::embedded::Embedded;
use super::over_http::OverHttp;
use super::raw::Raw;
use crate::follow::Told;

/// Is a contender, until its standard input ends.
///
/// # Errors
///
/// When anything fails: a figure of what went wrong is none.
pub(crate) async fn run(who: Who, concurrency: usize) -> anyhow::Result<()> {
    let mut told = Told::read();
    let url = told.place().await?;
    match who {
        Who::Raw => told.obey(Raw::start(&url).await?).await,
        Who::Embedded => told.obey(Embedded::start(&url, concurrency).await?).await,
        Who::Http => told.obey(OverHttp::start(&url, concurrency)?).await,
        Who::Graphile | Who::Boss => anyhow::bail!("{} is no part of this program", who.name()),
    }
}
