//! A request taken apart, and where it was made to.

use super::App;
use super::access::Access;
use super::conditional::Asked;
use super::problem::{Kind, Problem};
use super::query::{self, Query};
use anteroom::core::JobId;
use axum::body::Body;
use axum::extract::{OriginalUri, Request};
use http::HeaderMap;
use http::request::Parts;
use std::borrow::Cow;
use std::sync::Arc;

/// A request taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) mount: Mount,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
    access: Access,
}

impl Call {
    /// Takes apart a request that came to `mount`. Until it is [admitted](Self::admit), its caller has
    /// access to nothing.
    pub(crate) fn new(request: Request, mount: Mount) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            mount,
            parts,
            body,
            access: Access::nobody(),
        }
    }

    /// Gives the caller access.
    pub(crate) fn admit(&mut self, access: Access) {
        self.access = access;
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Returns the query, to be taken apart further.
    pub(crate) fn query(&self) -> Query {
        Query::parse(self.parts.uri.query())
    }

    /// Refuses a query where none is taken.
    pub(crate) fn no_query(&self) -> Result<(), Problem> {
        self.query().finish()
    }

    /// Returns the part of the path with this number, decoded. The route says that it is there.
    pub(crate) fn segment(&self, index: usize) -> Cow<'_, str> {
        let path = self.parts.uri.path();
        let segment = path.split('/').nth(index + 1).unwrap_or_default();
        // The edge has refused paths that do not decode.
        query::decode(segment, false).unwrap_or_default()
    }

    /// Lets go of the request, but for what an answer after a wait needs of it: each field of a head
    /// keeps the whole buffer that it came in.
    pub(crate) fn before_a_wait(self) -> (Mount, Asked) {
        (self.mount, Asked::of(&self.parts))
    }

    /// Returns what the caller has access to.
    pub(crate) const fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the id in `/v1/jobs/{id}`, once it is known that the caller may see that job: the
    /// only way to it, so that no handler can forget to ask.
    ///
    /// What is no id names no job: the answer is that of any id that nobody has.
    pub(crate) fn job_id<'a>(
        &self,
        app: &'a App,
    ) -> impl Future<Output = Result<JobId, Problem>> + Send + use<'a> {
        let (named, access) = (self.named_job(), self.access.clone());
        async move {
            let id = named?;
            access.check_job(app, id).await?;
            Ok(id)
        }
    }

    fn named_job(&self) -> Result<JobId, Problem> {
        let text = self.segment(2);
        text.parse().map_err(|error| {
            Problem::new(Kind::UnknownJob, format!("{text:?} is no job id: {error}"))
        })
    }
}

/// Where the router is mounted, as a request shows it. It keeps nothing of the request, and is cheap
/// to clone.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    path: Arc<str>,
    prefix_bytes: usize,
}

impl Mount {
    /// Compares the path that was asked for with what is left of it here.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let here = request.uri();
        let original = request
            .extensions()
            .get::<OriginalUri>()
            .map_or(here, |original| &original.0);
        let path = original.path();
        let prefix_bytes = match path.strip_suffix(here.path()) {
            Some(prefix) => prefix.len(),
            // `/jobs` mounted at `/jobs` is `/` here.
            None if here.path() == "/" => path.len(),
            None => 0,
        };
        Self {
            path: path.into(),
            prefix_bytes,
        }
    }

    /// Returns what stands before the router's own paths: empty, or `/…` without a last slash.
    pub(crate) fn prefix(&self) -> &str {
        &self.path[..self.prefix_bytes]
    }

    /// Returns the path that was asked for.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_what_was_stripped() {
        for (original, here, prefix) in [
            ("/v1/jobs", "/v1/jobs", ""),
            ("/", "/", ""),
            ("/work/v1/jobs", "/v1/jobs", "/work"),
            ("/a/b/v1/jobs/1", "/v1/jobs/1", "/a/b"),
            ("/work", "/", "/work"),
            ("/work/", "/", "/work"),
        ] {
            let mut request = http::Request::new(());
            *request.uri_mut() = here.parse().unwrap();
            request
                .extensions_mut()
                .insert(OriginalUri(original.parse().unwrap()));
            assert_eq!(Mount::of(&request).prefix(), prefix, "{original}");
        }
    }
}
