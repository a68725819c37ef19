//! Who a data directory is: a random incarnation id from its first start, and, once it belongs to a set, the set's
//! cluster id and its Raft node id. A wiped directory gets a new incarnation, so it can never vote as its old self.

use std::path::{Path, PathBuf};

use raftmq_store::vfs::FileSystem;
use raftmq_store::{Result, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::options::Node;

/// Content of the `identity` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Broker name of the set.
    pub set: String,
    /// Random id of this directory.
    pub incarnation: String,
    /// What it was made a member of.
    pub membership: Option<Belongs>,
}

/// Belonging to a set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Belongs {
    /// Random id of the set, from its founding.
    pub cluster_id: String,
    /// Own Raft node id.
    pub node_id: u64,
    /// All founders by node id: name and incarnation; none in a directory that joined later.
    #[serde(default)]
    pub founders: Vec<(u64, String, String)>,
    /// Own name in the set.
    #[serde(default)]
    pub name: String,
    /// The members as last heard of, by node id.
    #[serde(default)]
    pub members: Vec<(u64, Node)>,
    /// The set begins with this version: all founders know it.
    #[serde(default)]
    pub version: u32,
    /// It was taken out of the set again.
    #[serde(default)]
    pub removed: bool,
}

impl Identity {
    fn path(dir: &Path) -> PathBuf {
        dir.join("identity")
    }

    /// Whether the directory has one.
    pub fn exists(fs: &dyn FileSystem, dir: &Path) -> bool {
        fs.exists(&Self::path(dir))
    }

    /// Reads the directory's identity, or gives it one.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the directory belongs to another set; damage; I/O.
    pub fn load_or_create(fs: &dyn FileSystem, dir: &Path, set: &str) -> Result<Identity> {
        let path = Self::path(dir);
        if fs.exists(&path) {
            let bytes = fs
                .read(&path)
                .map_err(|e| StoreError::io(format!("read {}", path.display()), e))?;
            let identity: Identity = serde_json::from_slice(&bytes)
                .map_err(|e| StoreError::corrupt(path.display().to_string(), e.to_string()))?;
            if identity.set != set {
                return Err(StoreError::Refused(format!(
                    "{} belongs to the broker set {}, the configuration says brokerName={set}",
                    dir.display(),
                    identity.set
                )));
            }
            return Ok(identity);
        }
        let identity = Identity {
            set: set.to_owned(),
            incarnation: new_id(),
            membership: None,
        };
        identity.save(fs, dir)?;
        Ok(identity)
    }

    /// Replaces the file, durably.
    ///
    /// # Errors
    /// I/O.
    pub fn save(&self, fs: &dyn FileSystem, dir: &Path) -> Result<()> {
        let json =
            serde_json::to_vec_pretty(self).map_err(|e| StoreError::Metadata(e.to_string()))?;
        let path = Self::path(dir);
        fs.replace(&path, &json)
            .map_err(|e| StoreError::io(format!("write {}", path.display()), e))
    }
}

/// A random id.
pub fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}
