//! What a set of voters can still lose.

use raftmq_remoting::body::RaftStatus;

/// The voters of a set and how many of them can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    pub voters: usize,
    pub reachable: usize,
}

impl Quorum {
    /// The voters; without one of them, if it is to go.
    pub fn of(status: &RaftStatus, without: Option<u64>) -> Self {
        let votes = |id: &u64| Some(*id) != without;
        let reachable = |id: &&u64| {
            let mut replicas = status.replicas.iter();
            replicas.any(|r| r.node_id == **id && r.reachable)
        };
        let voters = status.voters.iter().filter(|id| votes(id));
        Self {
            voters: voters.clone().count(),
            reachable: voters.filter(reachable).count(),
        }
    }

    /// Voters that may fail before writes stop; None: they have stopped.
    pub fn spare(self) -> Option<usize> {
        self.reachable.checked_sub(self.voters / 2 + 1)
    }

    /// [`Self::spare`] in words that follow "2 voters remain, ".
    pub fn outlook(self) -> String {
        match self.spare() {
            None => format!(
                "{} of them can be reached and nothing can be written",
                self.reachable
            ),
            Some(0) => "one more failure stops writes".to_owned(),
            Some(1) => "one of them may fail".to_owned(),
            Some(n) => format!("{n} of them may fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use raftmq_remoting::body::RaftReplica;

    use super::*;

    #[test]
    fn a_majority_that_can_be_reached_is_needed() {
        for (voters, reachable, spare) in [
            (1, 1, Some(0)),
            (2, 2, Some(0)),
            (3, 3, Some(1)),
            (3, 2, Some(0)),
            (3, 1, None),
            (4, 4, Some(1)),
            (5, 5, Some(2)),
            (0, 0, None),
        ] {
            assert_eq!(
                Quorum { voters, reachable }.spare(),
                spare,
                "{voters} {reachable}"
            );
        }
    }

    #[test]
    fn learners_and_the_one_that_goes_do_not_count() {
        let replica = |node_id, reachable| RaftReplica {
            node_id,
            reachable,
            ..Default::default()
        };
        let status = RaftStatus {
            voters: vec![1, 2, 3],
            replicas: vec![
                replica(1, true),
                replica(2, false),
                replica(3, true),
                replica(4, true),
            ],
            ..Default::default()
        };
        let quorum = |voters, reachable| Quorum { voters, reachable };
        assert_eq!(Quorum::of(&status, None), quorum(3, 2));
        assert_eq!(Quorum::of(&status, Some(2)), quorum(2, 2));
        assert_eq!(Quorum::of(&status, Some(3)), quorum(2, 1));
        assert_eq!(Quorum::of(&status, Some(4)), quorum(3, 2));
    }
}
