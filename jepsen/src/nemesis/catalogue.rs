//! All faults by name: what they do, what they need, how they run.

use std::future::Future;
use std::pin::Pin;

use raftmq_benches::BenchError;

use super::scene::{Scene, Took, Turn};
use super::{clocks, disks, files, members, network, packets, power, processes, retention};
use crate::bed::Bed;

/// What a bed must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Network namespaces; root.
    pub network: bool,
    /// Disks of the replicas' own; root.
    pub disks: bool,
    /// libfaketime.
    pub clocks: bool,
    /// Our servers.
    pub ours: bool,
}

const NOTHING: Needs = Needs {
    network: false,
    disks: false,
    clocks: false,
    ours: false,
};
const NETWORK: Needs = Needs {
    network: true,
    ..NOTHING
};
const DISKS: Needs = Needs {
    disks: true,
    ..NOTHING
};
const BOTH: Needs = Needs {
    network: true,
    ..DISKS
};
const CLOCKS: Needs = Needs {
    clocks: true,
    ..NOTHING
};
const OURS: Needs = Needs {
    ours: true,
    ..NOTHING
};

impl Needs {
    /// # Errors
    /// The bed has not all of it.
    pub fn check(&self, fault: &str, bed: &Bed) -> Result<(), BenchError> {
        let has = bed.options();
        let missing = [
            (self.network && !has.network, "a network of its own (root)"),
            (self.disks && !has.disks, "disks of its own (root)"),
            (
                self.clocks && !has.clocks,
                "clocks of its own (libfaketime)",
            ),
            (self.ours && !bed.is_ours(), "our servers"),
            (bed.replicas() < 2, "more than one replica"),
        ];
        match missing.iter().find(|(is_missing, _)| *is_missing) {
            Some((_, what)) => Err(BenchError::Usage(format!("{fault} needs {what}"))),
            None => Ok(()),
        }
    }
}

/// What a fault disturbs; two of different classes may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Links,
    Packets,
    Processes,
    Disks,
    Clocks,
    Names,
    /// Never beside another, and only when the set is whole: together they could take more than a majority for good.
    Alone,
}

impl Class {
    pub fn goes_with(self, other: Self) -> bool {
        self != other && self != Self::Alone && other != Self::Alone
    }
}

type Played<'a> = Pin<Box<dyn Future<Output = Result<Took, BenchError>> + Send + 'a>>;

/// A fault.
pub struct Fault {
    pub name: &'static str,
    /// One line.
    pub says: &'static str,
    /// Whom or what it meets: after its name and a colon, or by the seed.
    pub options: &'static [&'static str],
    pub needs: Needs,
    pub class: Class,
    /// What it may lose by design; None: nothing that was acknowledged.
    pub may_lose: Option<&'static str>,
    pub(super) run: for<'a> fn(&'a Scene, &'a Turn) -> Played<'a>,
}

/// A fault that a plan wants.
pub struct Wanted {
    /// As the plan has it.
    pub name: String,
    pub fault: &'static Fault,
    pub option: Option<&'static str>,
}

/// Finds the plan's faults.
///
/// # Errors
/// There is none of a name, or it has no such option.
pub fn wanted(names: &[String]) -> Result<Vec<Wanted>, BenchError> {
    let find = |name: &String| {
        let (fault, option) = match name.split_once(':') {
            Some((fault, option)) => (fault, Some(option)),
            None => (name.as_str(), None),
        };
        let fault = FAULTS.iter().find(|f| f.name == fault);
        let fault = fault.ok_or_else(|| BenchError::Usage(format!("there is no fault {name}")))?;
        let known = |o: &str| fault.options.iter().find(|k| **k == o).copied();
        let option = match option {
            None => None,
            Some(text) => Some(known(text).ok_or_else(|| {
                let known = fault.options.join(", ");
                BenchError::Usage(format!("{} meets one of: {known}", fault.name))
            })?),
        };
        Ok(Wanted {
            name: name.clone(),
            fault,
            option,
        })
    };
    names.iter().map(find).collect()
}

/// All faults.
pub fn catalogue() -> &'static [Fault] {
    FAULTS
}

const ANYBODY: &[&str] = &["leader", "follower", "minority", "majority", "all"];
const SOME: &[&str] = &["leader", "follower", "minority"];
const LINKS: &[&str] = &["all", "leader", "follower", "clients"];
const FILES: &[&str] = &[
    "segment",
    "sparse-index",
    "queue",
    "key-index",
    "metadata",
    "snapshot",
    "marks",
];
const COPIES: &[&str] = &["segment", "queue", "key-index", "metadata", "snapshot"];
const UNSYNCED: Option<&str> =
    Some("ASYNC_FLUSH, and a majority without power: what was acknowledged and not yet flushed");

macro_rules! fault {
    ($name:literal, $run:path, $options:expr, $needs:expr, $class:ident, $may_lose:expr, $says:literal) => {
        Fault {
            name: $name,
            says: $says,
            options: $options,
            needs: $needs,
            class: Class::$class,
            may_lose: $may_lose,
            run: |scene, turn| Box::pin($run(scene, turn)),
        }
    };
}

#[rustfmt::skip]
static FAULTS: &[Fault] = &[
    fault!("partition-halves", network::halves, &[], NETWORK, Links, None, "two groups of replicas do not reach each other"),
    fault!("partition-leader", network::partition_leader, &[], NETWORK, Links, None, "the leader reaches nobody, clients included"),
    fault!("isolate-leader", network::isolate_leader, &[], NETWORK, Links, None, "the leader reaches no other replica; clients reach it"),
    fault!("partition-ring", network::partition_ring, &[], NETWORK, Links, None, "every replica reaches a majority, each another one (three replicas: bridge)"),
    fault!("bridge", network::bridge, &[], NETWORK, Links, None, "two groups reach each other only through one replica, which passes nothing on"),
    fault!("one-way", network::one_way, SOME, NETWORK, Links, None, "a replica hears nobody, or nobody hears it"),
    fault!("flapping", network::flapping, SOME, NETWORK, Links, None, "all links of a replica go down and up every 100 to 500 ms"),
    fault!("delay", packets::delay, LINKS, NETWORK, Packets, None, "packets take 50 to 150 ms"),
    fault!("loss", packets::loss, LINKS, NETWORK, Packets, None, "10 to 30 % of packets are lost"),
    fault!("throttle", packets::throttle, LINKS, NETWORK, Packets, None, "1 MB/s passes"),
    fault!("reset", packets::reset, LINKS, NETWORK, Packets, None, "1 % of segments become resets of their connections"),
    fault!("duplicate", packets::duplicate, LINKS, NETWORK, Packets, None, "20 % of packets come twice"),
    fault!("reorder", packets::reorder, LINKS, NETWORK, Packets, None, "20 % of packets are overtaken by others"),
    fault!("kill", processes::kill, ANYBODY, NOTHING, Processes, None, "kill -9, started again later"),
    fault!("restart-storm", processes::restart_storm, ANYBODY, NOTHING, Processes, None, "killed and started every 100 to 400 ms"),
    fault!("pause", processes::pause, ANYBODY, NOTHING, Processes, None, "SIGSTOP, later SIGCONT"),
    fault!("stop", processes::stop, SOME, NOTHING, Processes, None, "SIGTERM, started again later"),
    fault!("restart-beside-isolated-leader", processes::restart_beside_isolated_leader, &[], NETWORK, Alone, None, "the leader is isolated, and the voters that it needed until then are killed and started at once, beside others that wait to elect"),
    fault!("power", power::power, ANYBODY, DISKS, Alone, UNSYNCED, "everything not fsynced is gone, back in another boot"),
    fault!("power-leader-fast", power::leader_fast, &[], DISKS, Alone, None, "the leader loses power and is back at once"),
    fault!("part-kill", power::part_kill, &[], BOTH, Alone, None, "a minority is cut off while others take writes; then one of those loses power, the rest is cut off, and it restarts beside the minority"),
    fault!("pause-kill", power::pause_kill, &[], DISKS, Alone, None, "the same with SIGSTOP in place of cuts"),
    fault!("wipe-two", power::wipe_two, &[], OURS, Alone, None, "a majority comes back with empty directories: nobody may lead; then it gets them back"),
    fault!("disk-full", disks::full, ANYBODY, DISKS, Disks, None, "no room on the disk"),
    fault!("disk-hang", disks::hang, ANYBODY, DISKS, Disks, None, "writes wait, 5 s at most"),
    fault!("disk-slow", disks::slow, ANYBODY, DISKS, Disks, None, "writes wait 50 to 300 ms again and again"),
    fault!("fsync-error", disks::fsync_error, SOME, DISKS, Alone, None, "every write and fsync fails under a running replica"),
    fault!("bitflip", files::bitflip, FILES, OURS, Alone, None, "bits of a file of a minority flip while it is dead"),
    fault!("truncate", files::cut_short, FILES, OURS, Alone, None, "a file of a minority loses its end while it is dead"),
    fault!("old-copy", files::old_copy, COPIES, OURS, Alone, None, "a minority finds its files of one kind as they were before"),
    fault!("trim-past", retention::trim_past, &[], OURS, Alone, Some("messages whose part of the log was given up"), "a follower is dead while the log is given up beyond what it has"),
    fault!("clock-jump", clocks::jump, ANYBODY, CLOCKS, Clocks, None, "clocks are up to minutes off"),
    fault!("clock-skew", clocks::skew, ANYBODY, CLOCKS, Clocks, None, "clocks run fast, slow or nearly stand"),
    fault!("clock-strobe", clocks::strobe, ANYBODY, CLOCKS, Clocks, None, "clocks jump to and fro every 20 to 200 ms"),
    fault!("grow-shrink", members::grow_shrink, &[], OURS, Alone, None, "an empty replica joins and votes, then it or an old one leaves"),
    fault!("wipe-rejoin", members::wipe_rejoin, SOME, OURS, Alone, None, "a replica loses its directory and joins again"),
    fault!("transfer", members::transfer, &[], OURS, Processes, None, "leadership is handed to others, again and again"),
    fault!("transfer-dead", members::transfer_dead, &[], OURS, Processes, None, "leadership is to go to a replica that was just killed"),
    fault!("namesrv-kill", processes::kill_namesrv, &[], NOTHING, Names, None, "the name server is killed, started again later"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn every_fault_has_a_name_of_its_own_and_options_that_mean_something() {
        for (place, fault) in FAULTS.iter().enumerate() {
            assert!(FAULTS[..place].iter().all(|f| f.name != fault.name));
            assert!(!fault.says.is_empty() && !fault.name.contains(':'));
            for option in fault.options {
                let known = ANYBODY.contains(option) || *option == "clients";
                let kind = crate::bed::rot::FileKind::named(option).is_some();
                assert!(known != kind, "{option}");
            }
        }
        assert!(FAULTS.len() >= 36);
    }

    #[test]
    fn unknown_names_and_options_are_refused() {
        let found = wanted(&names(&["kill:leader", "pause", "bitflip:queue"])).unwrap();
        assert_eq!(found[0].option, Some("leader"));
        assert_eq!((found[1].fault.name, found[1].option), ("pause", None));
        for wrong in ["melt", "kill:nobody", "partition-halves:leader", "kill:"] {
            assert!(wanted(&names(&[wrong])).is_err(), "{wrong}");
        }
    }
}
