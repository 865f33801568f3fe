//! How the store on trial is moved: through a file in memory, into others of its kind.

use super::{StoreUnderTest, Trial};
use crate::moving::{About, Content, Imported, MoveError, export, import, verify};
use crate::store::archive::Archive;
use std::sync::Arc;

/// What was exported.
pub(super) struct Exported {
    pub(super) file: Vec<u8>,
    pub(super) content: Content,
}

impl Trial {
    /// Moves all that the store keeps into another one, which is on trial from then on. False: this
    /// kind cannot be moved, and nothing was done.
    pub(super) async fn moves(&mut self) -> bool {
        let Some(exported) = self.export().await else {
            return false;
        };
        let imported = self.import(&exported.file).await;
        if let Err(error) = imported {
            panic!("the import failed: {error}");
        }
        true
    }

    /// Exports the store, which is closed by that where it is durable. None: this kind cannot be.
    pub(super) async fn export(&mut self) -> Option<Exported> {
        self.pause().await;
        let archive = self.archive_of(self.subject()).await?;
        let mut file = Vec::new();
        let content = export(&*archive, &About::made_at(self.now()), &mut file).await;
        let content = content.unwrap_or_else(|error| panic!("the export failed: {error}"));
        close(&*archive).await;
        Some(Exported { file, content })
    }

    /// Imports a file into a new store, which is on trial from then on.
    pub(super) async fn import(&mut self, file: &[u8]) -> Result<Imported, MoveError> {
        let into = self.another();
        let imported = self.import_into(&*into, file).await;
        self.go_on_with(into).await;
        imported
    }

    /// Imports a file into a store that nobody has open.
    pub(super) async fn import_into(
        &self,
        into: &dyn StoreUnderTest,
        mut file: &[u8],
    ) -> Result<Imported, MoveError> {
        let Some(archive) = self.archive_of(into).await else {
            panic!("another store of the kind cannot be written");
        };
        let imported = import(&*archive, &mut file).await;
        close(&*archive).await;
        imported
    }

    /// Looks for damage in the store, which is closed, if there is anything left of it to look at.
    pub(super) async fn is_whole(&self) {
        if !self.is_durable() {
            return;
        }
        let Some(archive) = self.archive_of(self.subject()).await else {
            return;
        };
        let mut damages = Vec::new();
        let verified = verify(&*archive, &mut |damage| damages.push(damage.to_owned())).await;
        close(&*archive).await;
        // Cases settle without a result where it does not matter, which no engine does.
        damages.retain(|damage| !damage.ends_with("it succeeded and has no result"));
        assert!(
            verified.is_ok() && damages.is_empty(),
            "{damages:#?} {verified:?}"
        );
    }

    /// Returns what the store holds, and what is damaged in it.
    pub(super) async fn verified(&mut self) -> (Content, Vec<String>) {
        self.pause().await;
        self.verified_in(self.subject()).await
    }

    /// Returns the same of a store that nobody has open.
    pub(super) async fn verified_in(&self, store: &dyn StoreUnderTest) -> (Content, Vec<String>) {
        let Some(archive) = self.archive_of(store).await else {
            panic!("another store of the kind cannot be read");
        };
        let mut damages = Vec::new();
        let verified = verify(&*archive, &mut |damage| damages.push(damage.to_owned())).await;
        close(&*archive).await;
        match verified {
            Ok(verified) => (verified.content, damages),
            Err(error) => panic!("it could not be verified: {error}"),
        }
    }

    async fn archive_of(&self, store: &dyn StoreUnderTest) -> Option<Arc<dyn Archive>> {
        store.archive(self.clock()).await
    }
}

async fn close(archive: &dyn Archive) {
    let closed = archive.close().await;
    if let Err(error) = closed {
        panic!("it could not be closed: {error}");
    }
}
