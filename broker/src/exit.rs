//! How `mqbroker` ends, for whoever starts it again.
//!
//! | code | meaning | start it again? |
//! |---|---|---|
//! | 0 | it was told to stop | |
//! | 1 | a failure: a disk, a port, the replica | yes |
//! | 2 | the command line is wrong | no |
//! | 78 | a setting or a switch cannot work (`EX_CONFIG`) | no |
//! | 65 | this directory is of no use to this program: the replica was removed, or its set has a newer version | no |
//! | 81 | the directory is refused: made with other constants, of somebody else, or in use | no |
//!
//! The unit in `deploy/systemd` has all but the first two in `RestartPreventExitStatus`.

use raftmq_raft::RaftError;
use raftmq_store::StoreError;

use crate::error::BrokerError;

/// A failure that may be over at the next start.
pub const FAILED: u8 = 1;
/// A setting or a switch cannot work.
pub const CONFIG: u8 = 78;
/// This replica was removed from its set, or the set has a newer version (`EX_DATAERR`).
pub const HOPELESS: u8 = 65;
/// The store's directory is refused.
pub const STORE_REFUSED: u8 = 81;

/// The code an error ends the process with.
pub fn code(error: &BrokerError) -> u8 {
    match error {
        BrokerError::BadSetting { .. }
        | BrokerError::ConfigFile { .. }
        | BrokerError::LoopbackAdvertised { .. }
        | BrokerError::NotBorn { .. }
        | BrokerError::UselessSwitch { .. }
        | BrokerError::Raft(RaftError::Config(_)) => CONFIG,
        BrokerError::Raft(RaftError::Hopeless(_) | RaftError::Store(StoreError::Newer(_))) => {
            HOPELESS
        }
        BrokerError::Raft(RaftError::Store(StoreError::Refused(_))) => STORE_REFUSED,
        BrokerError::Listen { .. }
        | BrokerError::NameServer(_)
        | BrokerError::Raft(_)
        | BrokerError::Io { .. } => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_restart_mends_has_a_code_of_its_own() {
        let removed = RaftError::Hopeless("removed".to_owned());
        let newer = RaftError::Store(StoreError::Newer("newer".to_owned()));
        let refused = RaftError::Store(StoreError::Refused("in use".to_owned()));
        let bad = BrokerError::BadSetting {
            key: "k".to_owned(),
            value: "v".to_owned(),
            expected: "w".to_owned(),
        };
        assert_eq!(code(&removed.into()), HOPELESS);
        assert_eq!(code(&newer.into()), HOPELESS);
        assert_eq!(code(&refused.into()), STORE_REFUSED);
        assert_eq!(code(&bad), CONFIG);
        let failed = RaftError::Fatal("the disk".to_owned());
        assert_eq!(code(&failed.into()), FAILED);
    }
}
