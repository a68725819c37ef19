//! What retention decides: the place at which the log should begin, from what is known at one moment. No clock, no disk.
//!
//! Messages go in order, oldest first, up to one of the log's boundaries. What has expired goes at its hour, when the disk
//! is fuller than it should be, or on demand, but not beyond what every replica has: a replica that is behind would have
//! to start over. A disk that is short takes precedence over both, one boundary a round.

use raftmq_raft::TrimPoint;

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// `fileReservedTime`, ms.
    pub reserved_ms: i64,
    /// `diskMaxUsedSpaceRatio`, percent.
    pub max_used: f64,
    /// Percent from which on messages go that have not expired; `None` when they may not.
    pub forcibly: Option<f64>,
}

/// What a replica knows at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Clock, ms since the epoch.
    pub now_ms: i64,
    /// How full the disk is, percent.
    pub used: f64,
    /// It is an hour of `deleteWhen`.
    pub is_time: bool,
    /// An administrator asked.
    pub manual: bool,
    /// Where the log begins, byte position.
    pub log_start: u64,
    /// Where it could begin, oldest first.
    pub boundaries: &'a [TrimPoint],
    /// The last entry that every replica has.
    pub everywhere: u64,
}

impl Situation<'_> {
    fn candidates(&self) -> impl Iterator<Item = &TrimPoint> {
        self.boundaries
            .iter()
            .filter(|point| point.position > self.log_start)
    }
}

impl Policy {
    fn forces(&self, used: f64) -> bool {
        self.forcibly.is_some_and(|limit| used >= limit)
    }

    fn has_expired(&self, point: &TrimPoint, now_ms: i64) -> bool {
        point.store_timestamp.saturating_add(self.reserved_ms) < now_ms
    }

    /// Where the set's log should begin, when that is beyond where it does. For the master.
    pub fn for_the_set(&self, now: &Situation<'_>) -> Option<u64> {
        let forced = self.forces(now.used);
        if !(forced || now.is_time || now.manual || now.used >= self.max_used) {
            return None;
        }
        let expired = || {
            now.candidates()
                .take_while(|p| self.has_expired(p, now.now_ms))
        };
        let gently = expired()
            .take_while(|p| p.index <= now.everywhere)
            .last()
            .map(|p| p.position);
        if gently.is_some() || !forced {
            return gently;
        }
        expired()
            .last()
            .or_else(|| now.candidates().next())
            .map(|p| p.position)
    }

    /// Where this replica's own log should begin when its disk is short and another one leads.
    pub fn for_itself(&self, now: &Situation<'_>) -> Option<u64> {
        match self.forces(now.used) {
            true => now.candidates().next().map(|p| p.position),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const POLICY: Policy = Policy {
        reserved_ms: 72 * HOUR,
        max_used: 75.0,
        forcibly: Some(85.0),
    };

    /// Boundaries at 100, 200, 300, 400, whose last messages are 90, 80, 70, 60 hours old; the log begins at 0.
    fn boundaries() -> Vec<TrimPoint> {
        (1..=4)
            .map(|n| TrimPoint {
                position: n * 100,
                index: n * 10,
                store_timestamp: (n as i64 * 10) * HOUR,
            })
            .collect()
    }

    fn quiet(boundaries: &[TrimPoint]) -> Situation<'_> {
        Situation {
            now_ms: 100 * HOUR,
            used: 50.0,
            is_time: false,
            manual: false,
            log_start: 0,
            boundaries,
            everywhere: u64::MAX,
        }
    }

    #[test]
    fn nothing_goes_without_a_reason() {
        let all = boundaries();
        assert_eq!(POLICY.for_the_set(&quiet(&all)), None);
        for used in [0.0, 74.9] {
            let now = Situation {
                used,
                ..quiet(&all)
            };
            assert_eq!(POLICY.for_the_set(&now), None, "{used}");
        }
    }

    #[test]
    fn each_reason_takes_what_has_expired() {
        let all = boundaries();
        let reasons = [
            Situation {
                is_time: true,
                ..quiet(&all)
            },
            Situation {
                manual: true,
                ..quiet(&all)
            },
            Situation {
                used: 75.0,
                ..quiet(&all)
            },
            Situation {
                used: 84.9,
                ..quiet(&all)
            },
        ];
        for now in reasons {
            assert_eq!(POLICY.for_the_set(&now), Some(200), "{now:?}");
        }
    }

    #[test]
    fn the_reserved_time_is_exact() {
        let all = boundaries();
        let at = |now_ms| Situation {
            now_ms,
            is_time: true,
            ..quiet(&all)
        };
        assert_eq!(POLICY.for_the_set(&at(82 * HOUR)), None);
        assert_eq!(POLICY.for_the_set(&at(82 * HOUR + 1)), Some(100));
        assert_eq!(POLICY.for_the_set(&at(1_000 * HOUR)), Some(400));
        let nothing = Policy {
            reserved_ms: 0,
            ..POLICY
        };
        assert_eq!(nothing.for_the_set(&at(40 * HOUR + 1)), Some(400));
        assert_eq!(
            nothing.for_the_set(&at(0)),
            None,
            "a clock that was set back"
        );
        let forever = Policy {
            reserved_ms: i64::MAX,
            ..POLICY
        };
        assert_eq!(forever.for_the_set(&at(i64::MAX)), None);
    }

    #[test]
    fn what_is_gone_is_no_candidate() {
        let all = boundaries();
        for (log_start, expected) in [
            (99, Some(200)),
            (100, Some(200)),
            (200, None),
            (300, None),
            (400, None),
        ] {
            let now = Situation {
                manual: true,
                log_start,
                ..quiet(&all)
            };
            assert_eq!(POLICY.for_the_set(&now), expected, "{log_start}");
        }
        let now = Situation {
            used: 99.0,
            manual: true,
            ..quiet(&[])
        };
        assert_eq!(POLICY.for_the_set(&now), None);
        assert_eq!(POLICY.for_itself(&now), None);
    }

    #[test]
    fn a_replica_behind_holds_it_back() {
        let all = boundaries();
        for (everywhere, expected) in [
            (0, None),
            (9, None),
            (10, Some(100)),
            (19, Some(100)),
            (20, Some(200)),
            (1_000, Some(200)),
        ] {
            let now = Situation {
                manual: true,
                everywhere,
                ..quiet(&all)
            };
            assert_eq!(POLICY.for_the_set(&now), expected, "{everywhere}");
        }
    }

    #[test]
    fn a_short_disk_does_not_wait_for_a_replica_behind() {
        let all = boundaries();
        let now = |everywhere| Situation {
            used: 85.0,
            everywhere,
            ..quiet(&all)
        };
        assert_eq!(POLICY.for_the_set(&now(0)), Some(200), "what has expired");
        assert_eq!(
            POLICY.for_the_set(&now(10)),
            Some(100),
            "first what harms nobody"
        );
        let later = Situation {
            log_start: 100,
            ..now(10)
        };
        assert_eq!(POLICY.for_the_set(&later), Some(200));
    }

    #[test]
    fn a_short_disk_takes_one_boundary_a_round_of_what_has_not_expired() {
        let all = boundaries();
        for (log_start, expected) in [
            (0, Some(200)),
            (200, Some(300)),
            (300, Some(400)),
            (400, None),
        ] {
            let now = Situation {
                used: 90.0,
                log_start,
                everywhere: 0,
                ..quiet(&all)
            };
            assert_eq!(POLICY.for_the_set(&now), expected, "{log_start}");
        }
        let kept = Policy {
            forcibly: None,
            ..POLICY
        };
        let now = Situation {
            used: 99.0,
            log_start: 200,
            ..quiet(&all)
        };
        assert_eq!(
            kept.for_the_set(&now),
            None,
            "cleanFileForciblyEnable=false"
        );
        let now = Situation {
            log_start: 0,
            everywhere: 10,
            ..now
        };
        assert_eq!(kept.for_the_set(&now), Some(100));
    }

    #[test]
    fn a_follower_gives_up_only_what_it_must() {
        let all = boundaries();
        for (used, log_start, expected) in [
            (84.9, 0, None),
            (85.0, 0, Some(100)),
            (99.0, 100, Some(200)),
            (99.0, 400, None),
        ] {
            let now = Situation {
                used,
                log_start,
                is_time: true,
                manual: true,
                ..quiet(&all)
            };
            assert_eq!(POLICY.for_itself(&now), expected, "{used} {log_start}");
        }
    }

    #[test]
    fn messages_of_no_time_have_expired() {
        let all = [TrimPoint {
            position: 100,
            index: 1,
            store_timestamp: 0,
        }];
        let now = Situation {
            manual: true,
            ..quiet(&all)
        };
        assert_eq!(POLICY.for_the_set(&now), Some(100));
    }
}
