//! Key-value configuration by namespace (`KVConfigManager`), kept in a JSON file.
//!
//! Readers see a table in memory. Changes go through one writing thread: it applies all that wait, writes the file (next
//! to it, fsync, rename, fsync of the directory) and only then shows the new table and answers. So nothing is ever
//! visible that a crash could take back, and no request thread touches the disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::error::KvError;

/// The namespace of `orderTopicConf`: `brokerA:4;brokerB:4` by topic.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Changes that may wait for the writing thread; administration comes one request at a time.
const MAX_WAITING: usize = 1024;
/// Bytes of all namespaces, keys and values together: the file is rewritten as a whole at each change.
pub const MAX_KV_BYTES: usize = 16 * 1024 * 1024;

type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// The file's content.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stored {
    config_table: Namespaces,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    Put {
        namespace: String,
        key: String,
        value: String,
    },
    Delete {
        namespace: String,
        key: String,
    },
    /// All of them or none.
    PutAll {
        namespace: String,
        pairs: Vec<(String, String)>,
    },
}

type Done = Box<dyn FnOnce(Result<(), KvError>) + Send>;

/// The configuration and its writing thread.
pub struct KvConfig {
    shown: Arc<RwLock<Arc<Namespaces>>>,
    changes: Mutex<Option<SyncSender<(Change, Done)>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl KvConfig {
    /// Reads the file at `path`, which need not exist.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        let table = match fs::read(path) {
            Ok(text) => {
                serde_json::from_slice::<Stored>(&text)
                    .map_err(|e| KvError::Damaged {
                        path: path.to_owned(),
                        why: e.to_string(),
                    })?
                    .config_table
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Namespaces::new(),
            Err(source) => {
                return Err(KvError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let shown = Arc::new(RwLock::new(Arc::new(table)));
        let (tx, rx) = sync_channel(MAX_WAITING);
        let (table, file) = (shown.clone(), path.to_owned());
        let writer = std::thread::Builder::new()
            .name("kv-config".into())
            .spawn(move || write_loop(&rx, &table, &file))
            .map_err(|e| KvError::Write {
                path: path.to_owned(),
                why: e.to_string(),
            })?;
        Ok(Self {
            shown,
            changes: Mutex::new(Some(tx)),
            writer: Mutex::new(Some(writer)),
        })
    }

    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.shown.read().get(namespace)?.get(key).cloned()
    }

    /// All pairs of a namespace; it stays when its last key is deleted.
    pub fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.shown.read().get(namespace).cloned()
    }

    /// Makes a change; `done` is called from the writing thread when the file holds it, or at once with an error.
    pub fn change(&self, change: Change, done: impl FnOnce(Result<(), KvError>) + Send + 'static) {
        let refused = match &*self.changes.lock() {
            None => Some((KvError::Closed, Box::new(done) as Done)),
            Some(tx) => match tx.try_send((change, Box::new(done))) {
                Ok(()) => None,
                Err(TrySendError::Full((_, done))) => Some((KvError::Busy, done)),
                Err(TrySendError::Disconnected((_, done))) => Some((KvError::Closed, done)),
            },
        };
        if let Some((error, done)) = refused {
            done(Err(error));
        }
    }

    /// Writes what waits and ends the thread. Blocks for the time of one file write.
    pub fn close(&self) {
        self.changes.lock().take();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the KV writing thread failed");
        }
    }
}

impl Drop for KvConfig {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_loop(changes: &Receiver<(Change, Done)>, shown: &RwLock<Arc<Namespaces>>, path: &Path) {
    while let Ok(first) = changes.recv() {
        let old = shown.read().clone();
        let mut table = Namespaces::clone(&old);
        let mut size = bytes_of(&table);
        let mut taken = Vec::new();
        for (change, done) in std::iter::once(first).chain(changes.try_iter().take(MAX_WAITING)) {
            match apply(&mut table, &mut size, change) {
                Ok(()) => taken.push(done),
                Err(e) => done(Err(e)),
            }
        }
        if taken.is_empty() {
            continue;
        }
        let written = if table == *old {
            Ok(())
        } else {
            persist(&table, path)
        };
        match written {
            Ok(()) => {
                *shown.write() = Arc::new(table);
                taken.into_iter().for_each(|done| done(Ok(())));
            }
            Err(e) => {
                tracing::error!(path = %path.display(), error = %e, "KV configuration not written");
                for done in taken {
                    done(Err(KvError::Write {
                        path: path.to_owned(),
                        why: e.to_string(),
                    }));
                }
            }
        }
    }
}

fn bytes_of(table: &Namespaces) -> usize {
    table
        .iter()
        .map(|(ns, pairs)| ns.len() + pairs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>())
        .sum()
}

fn apply(table: &mut Namespaces, size: &mut usize, change: Change) -> Result<(), KvError> {
    match change {
        Change::Put {
            namespace,
            key,
            value,
        } => {
            let pairs = vec![(key, value)];
            return apply(table, size, Change::PutAll { namespace, pairs });
        }
        Change::PutAll { namespace, pairs } => {
            let of_pairs: usize = pairs.iter().map(|(k, v)| k.len() + v.len()).sum();
            let grown = *size + namespace.len() + of_pairs;
            if grown > MAX_KV_BYTES {
                return Err(KvError::Full { max: MAX_KV_BYTES });
            }
            table.entry(namespace).or_default().extend(pairs);
            *size = grown;
        }
        Change::Delete { namespace, key } => {
            if let Some(pairs) = table.get_mut(&namespace) {
                pairs.remove(&key);
            }
        }
    }
    Ok(())
}

/// Replaces the file as a whole: after a crash it holds the old or the new table.
fn persist(table: &Namespaces, path: &Path) -> std::io::Result<()> {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = parent.join(name);
    let text = serde_json::to_vec(&Stored {
        config_table: table.clone(),
    })?;
    let mut file = File::create(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(&parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn put(kv: &KvConfig, namespace: &str, key: &str, value: &str) -> Result<(), KvError> {
        let change = Change::Put {
            namespace: namespace.into(),
            key: key.into(),
            value: value.into(),
        };
        change_now(kv, change)
    }

    fn change_now(kv: &KvConfig, change: Change) -> Result<(), KvError> {
        let (tx, rx) = mpsc::channel();
        kv.change(change, move |result| tx.send(result).unwrap());
        rx.recv().unwrap()
    }

    #[test]
    fn changes_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/kvConfig.json");
        let kv = KvConfig::open(&path).unwrap();
        assert_eq!(kv.namespace("n"), None);
        put(&kv, "n", "a", "1").unwrap();
        put(&kv, "n", "b", "2").unwrap();
        change_now(
            &kv,
            Change::Delete {
                namespace: "n".into(),
                key: "a".into(),
            },
        )
        .unwrap();
        change_now(
            &kv,
            Change::Delete {
                namespace: "none".into(),
                key: "a".into(),
            },
        )
        .unwrap();
        drop(kv);
        let kv = KvConfig::open(&path).unwrap();
        assert_eq!(
            (kv.get("n", "a"), kv.get("n", "b")),
            (None, Some("2".into()))
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"configTable":{"n":{"b":"2"}}}"#
        );
        assert_eq!(kv.namespace("none"), None);
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.json");
        fs::write(&path, "{\"configTable\":").unwrap();
        let error = KvConfig::open(&path).err().unwrap();
        assert!(
            matches!(error, KvError::Damaged { .. }) && error.to_string().contains("kv.json"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_written_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let kv = KvConfig::open(&dir.path().join("kv.json")).unwrap();
        put(&kv, "n", "a", "1").unwrap();
        // A directory stands where the temporary file should go.
        fs::create_dir(dir.path().join("kv.json.tmp")).unwrap();
        assert!(matches!(
            put(&kv, "n", "b", "2"),
            Err(KvError::Write { .. })
        ));
        assert_eq!(kv.get("n", "b"), None);
        fs::remove_dir(dir.path().join("kv.json.tmp")).unwrap();
        put(&kv, "n", "b", "2").unwrap();
        kv.close();
        assert!(matches!(put(&kv, "n", "c", "3"), Err(KvError::Closed)));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Namespaces::new();
        let mut size = MAX_KV_BYTES - 3;
        let put = |value: &str| Change::Put {
            namespace: "n".into(),
            key: "k".into(),
            value: value.into(),
        };
        apply(&mut table, &mut size, put("v")).unwrap();
        assert!(matches!(
            apply(&mut table, &mut size, put("v")),
            Err(KvError::Full { .. })
        ));
    }
}
