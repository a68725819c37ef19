//! What replicas tell each other at every first contact: the log's format, the segment size, and the set versions their
//! programs know. What does not fit is refused by name, before anything is written.
//!
//! The set's version is replicated state ([`raftmq_store::State::set_version`]): it says which commands a leader may
//! propose. A program that says nothing of itself is older than all this: version 0. It is taken for one that fits where
//! versions do not tell.

use raftmq_proto::raft as pb;
use raftmq_store::commitlog::format::FORMAT_VERSION;

/// The lowest set version this program can work with.
const LOWEST: u32 = 0;
/// Capabilities and bytes of each that are taken from a peer.
const MAX_CAPABILITIES: usize = 64;

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Version of the log's format; 0: not said.
    pub format: u32,
    /// Bytes of a log segment; 0: not said.
    pub segment_size: u64,
    /// The lowest set version it can work with.
    pub lowest: u32,
    /// The newest set version it knows.
    pub newest: u32,
    /// What else it can do, by name.
    pub capabilities: Vec<String>,
}

impl About {
    /// Of this program, with the store it stands on.
    pub fn own(segment_size: u64, newest: u32) -> Self {
        Self {
            format: FORMAT_VERSION,
            segment_size,
            lowest: LOWEST,
            newest,
            capabilities: Vec::new(),
        }
    }

    /// As it was told; nothing for a program that does not tell.
    pub fn told(message: Option<pb::About>) -> Self {
        let message = message.unwrap_or_default();
        let short = |name: &String| name.len() <= MAX_CAPABILITIES;
        let names = message.capabilities.into_iter().filter(short);
        Self {
            format: message.format,
            segment_size: message.segment_size,
            lowest: message.lowest_version,
            newest: message.newest_version,
            capabilities: names.take(MAX_CAPABILITIES).collect(),
        }
    }

    /// For the wire.
    pub fn message(&self) -> pb::About {
        pb::About {
            format: self.format,
            segment_size: self.segment_size,
            lowest_version: self.lowest,
            newest_version: self.newest,
            capabilities: self.capabilities.clone(),
        }
    }

    /// Why this replica, `me`, and a peer cannot be of one set at this version, with their names; `None`: they can.
    pub fn misfit(
        &self,
        me: &str,
        (name, peer): (&str, &About),
        set_version: u32,
    ) -> Option<String> {
        let said = |a: u64, b: u64| a != 0 && b != 0 && a != b;
        if said(u64::from(self.format), u64::from(peer.format)) {
            return Some(format!(
                "the log of {name} has format {}, that of {me} has {}",
                peer.format, self.format
            ));
        }
        if said(self.segment_size, peer.segment_size) {
            return Some(format!(
                "{name} has mappedFileSizeCommitLog={}, {me} has {}",
                peer.segment_size, self.segment_size
            ));
        }
        if peer.newest < set_version {
            return Some(format!(
                "the program of {name} knows set versions up to {}, the set is at {set_version}: {name} needs a newer program",
                peer.newest
            ));
        }
        if peer.lowest > set_version {
            return Some(format!(
                "the program of {name} knows set versions from {} on, the set is at {set_version}: {name} needs an older program",
                peer.lowest
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named_and_what_is_not_said_fits() {
        let own = About::own(1 << 30, 2);
        assert_eq!(own.misfit("n0", ("n1", &own), 2), None);
        let refused = |peer: About, version| {
            let misfit = own.misfit("n0", ("n1", &peer), version);
            misfit.unwrap_or_default()
        };
        assert_eq!(refused(About::told(None), 0), "", "an old program");
        let old = refused(About::told(None), 1);
        assert!(old.starts_with("the program of n1 knows set versions up to 0, the set is at 1"));
        let size = About::own(512 << 20, 2);
        assert!(refused(size, 0).contains("mappedFileSizeCommitLog=536870912"));
        let format = About {
            format: 7,
            ..own.clone()
        };
        assert!(refused(format, 0).contains("format 7"));
        let later = About {
            lowest: 1,
            ..own.clone()
        };
        assert!(refused(later, 0).contains("n1 needs an older program"));
        assert_eq!(About::told(Some(own.message())), own);
    }

    #[test]
    fn what_a_peer_says_of_itself_is_bounded() {
        let message = pb::About {
            capabilities: vec!["x".repeat(1000), "auth".to_owned()],
            ..Default::default()
        };
        assert_eq!(About::told(Some(message)).capabilities, ["auth"]);
        let message = pb::About {
            capabilities: vec!["a".to_owned(); 10_000],
            ..Default::default()
        };
        assert_eq!(About::told(Some(message)).capabilities.len(), 64);
    }
}
