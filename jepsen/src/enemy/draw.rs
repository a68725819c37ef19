//! The n-th request of a seed: a function of both, and of what the connection has heard so far where a request is about a
//! place in the log.

use raftmq_remoting::request_code;

use super::bodies::body;
use super::forms::{BROKER_FORMS, Form, NAMESRV_FORMS, other, other_codes};
use super::values::{Learned, odd, right};
use super::wire::{Asked, Spoiled, spoil};
use crate::random::Random;

/// Which server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Broker,
    Namesrv,
}

/// Draws requests.
pub struct Drawer {
    seed: u64,
    server: Server,
    forms: &'static [Form],
    weights: u64,
    others: Vec<i32>,
    /// Without requests that change what others use: settings, members, deletions.
    pub gentle: bool,
}

/// A request as it goes out.
pub struct Drawn {
    pub asked: Asked,
    pub bytes: Vec<u8>,
    /// What its connection is worth afterwards.
    pub spoiled: Option<Spoiled>,
    /// A right request of a right form.
    pub is_right: bool,
}

/// One in so many requests has a code without a form.
const OTHERS: usize = 40;
/// One in so many requests for a transfer of leadership names a replica.
const TRANSFERS: usize = 20;
/// One in so many frames is broken.
const BROKEN: usize = 60;

impl Drawer {
    /// For a seed.
    pub fn new(seed: u64, server: Server) -> Self {
        let forms = match server {
            Server::Broker => BROKER_FORMS,
            Server::Namesrv => NAMESRV_FORMS,
        };
        Self {
            seed,
            server,
            forms,
            weights: forms.iter().map(|f| u64::from(f.weight)).sum(),
            others: other_codes(),
            gentle: false,
        }
    }

    fn form(&self, random: &mut Random) -> (Form, bool) {
        if random.below(OTHERS) == 0 {
            let code = random.choose(&self.others).copied().unwrap_or(-1);
            // One that has a form here would be a real request with odd fields: as good.
            return (other(code), true);
        }
        let mut left = random.draw() % self.weights;
        for form in self.forms {
            match left.checked_sub(form.weight.into()) {
                Some(rest) => left = rest,
                // A transfer takes the set a moment: not several a second.
                None if form.code == request_code::RAFT_TRANSFER_LEADER
                    && random.below(TRANSFERS) > 0 =>
                {
                    return (other(-1), true);
                }
                None => return (*form, false),
            }
        }
        (other(-1), true)
    }

    /// The request.
    pub fn draw(&self, n: u64, learned: &Learned) -> Drawn {
        let salt = match self.server {
            Server::Broker => 0,
            Server::Namesrv => 0x6e73,
        };
        let mut random = Random::new(self.seed ^ salt ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let random = &mut random;
        random.draw();
        let (form, is_other) = self.form(random);
        // How many of its parts are wrong: none in a half, so that the rest has something to act on.
        let wrong = match random.below(20) {
            0..=9 => 0,
            10..=15 => 1,
            16..=18 => 2,
            _ => usize::MAX,
        };
        let parts = form.fields.len() + usize::from(form.content != super::forms::Content::Nothing);
        let is_wrong = |random: &mut Random| match wrong {
            0 => false,
            usize::MAX => true,
            some => random.below(parts.max(1)) < some,
        };
        let mut fields = Vec::with_capacity(form.fields.len());
        for (name, kind) in form.fields {
            let name = name.as_bytes().to_vec();
            let known = right(*kind, random, learned);
            if !is_wrong(random) {
                fields.push((name, known));
                continue;
            }
            match random.below(8) {
                // Missing.
                0 => {}
                1 => fields.push((name, Vec::new())),
                // Twice.
                2 => {
                    fields.push((name.clone(), known));
                    fields.push((name, odd(*kind, random)));
                }
                _ => fields.push((name, odd(*kind, random))),
            }
        }
        if wrong == usize::MAX {
            random.shuffle(&mut fields);
            if random.chance(0.05) {
                let many = if random.chance(0.2) { 20_000 } else { 300 };
                fields.extend((0..many).map(|n| (format!("f{n}").into_bytes(), b"v".to_vec())));
            }
        }
        let wrong_body = is_wrong(random);
        let body = body(form.content, random, wrong_body);
        let asked = Asked {
            code: form.code,
            opaque: (n & 0x7fff_ffff) as i32,
            flag: if random.chance(0.05) { 2 } else { 0 },
            version: [475, 395, 317, 0, 32_767][random.below(5)],
            fields,
            body,
            binary: random.chance(0.4),
        };
        let mut bytes = Vec::with_capacity(256 + asked.body.len());
        asked.write(&mut bytes);
        let spoiled = (random.below(BROKEN) == 0).then(|| spoil(&mut bytes, 0, random));
        Drawn {
            is_right: wrong == 0 && !is_other && spoiled.is_none(),
            asked,
            bytes,
            spoiled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_seed_and_the_number_are_all_there_is_to_it() {
        let learned = Learned::default();
        let all = |seed| -> Vec<Vec<u8>> {
            let drawer = Drawer::new(seed, Server::Broker);
            (0..500).map(|n| drawer.draw(n, &learned).bytes).collect()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn every_form_is_drawn_right_and_wrong() {
        let learned = Learned::default();
        for (server, forms) in [
            (Server::Broker, BROKER_FORMS),
            (Server::Namesrv, NAMESRV_FORMS),
        ] {
            let drawer = Drawer::new(3, server);
            let (mut rights, mut wrongs, mut broken) = (BTreeSet::new(), BTreeSet::new(), 0);
            for n in 0..150_000 {
                let drawn = drawer.draw(n, &learned);
                match drawn.is_right {
                    true => rights.insert(drawn.asked.code),
                    false => wrongs.insert(drawn.asked.code),
                };
                broken += usize::from(drawn.spoiled.is_some());
            }
            for form in forms {
                assert!(
                    rights.contains(&form.code) && wrongs.contains(&form.code),
                    "{}",
                    form.code
                );
            }
            assert!(wrongs.len() > forms.len() + 50 && broken > 300);
        }
    }
}
