//! Scripts that take long: for longer than followers wait for their leader.
//!
//! No simulated time passes while a node computes. So a script is charged for afterwards: as soon as a replica has applied one, and
//! before anything that its node has sent since gets anywhere, the node is made to stand still for as long as the script's
//! instructions take. To all others that is the same as a node whose processors were busy with it: nothing is heard of it, and what
//! it is sent waits. The others elect another leader meanwhile, which applies the script in its turn, and is charged too.
//! (A leader's trial of a script takes time of itself: [`crate::env`].)
//!
//! A script is known by the token that it appends to a list. One that was undone leaves none, and one that is applied again when
//! its node starts again is not noticed: neither is charged for.

use std::collections::BTreeMap;

use quoris_engine::hash_slot::slot_of;
use quoris_engine::machine::Read;
use quoris_engine::{Call, Machine, Reply};
use quoris_raft::node::Node;
use quoris_raft::types::GroupId;

use crate::client::Outcome;
use crate::run::now_ms;

/// A call that runs a long script.
struct LongScript {
    list: String,
    token: u64,
    /// How long it takes, in milliseconds.
    takes_ms: u64,
    began_ms: u64,
    /// When it was acknowledged.
    acknowledged_ms: Option<u64>,
    /// Its group, once a replica has applied it.
    group: Option<GroupId>,
    /// The replicas that have looked at it, by their nodes' addresses: how far they were, and whether it was there.
    looked: BTreeMap<u64, (u64, bool)>,
}

/// All calls that have not certainly come to nothing.
#[derive(Default)]
pub struct LongScripts(Vec<LongScript>);

impl LongScripts {
    /// A script is sent that appends `token` to `list` and takes so long.
    pub fn begin(&mut self, list: &str, token: u64, takes_ms: u64) {
        let list = list.to_owned();
        let (began_ms, acknowledged_ms, group, looked) = (now_ms(), None, None, BTreeMap::new());
        self.0.push(LongScript { list, token, takes_ms, began_ms, acknowledged_ms, group, looked });
    }

    /// That script's call has ended so.
    pub fn end(&mut self, token: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Unknown(_) => {}
            Outcome::Refused(_) | Outcome::Ok(crate::client::Reply::Error(_)) => {
                self.0.retain(|script| script.token != token);
            }
            Outcome::Ok(_) => {
                let script = self.0.iter_mut().find(|script| script.token == token);
                script.expect("a script that has begun").acknowledged_ms = Some(now_ms());
            }
        }
    }

    /// The node at address `place` has started: it knows nothing.
    pub fn starts(&mut self, place: u64) {
        for script in &mut self.0 {
            script.looked.remove(&place);
        }
    }

    /// What `node`, at address `place`, has applied since it was last asked: the group, and how long that takes.
    pub fn applied(&mut self, place: u64, node: &Node) -> Option<(GroupId, u64)> {
        let mut taken = None;
        for script in &mut self.0 {
            let group = node.group_of(slot_of(script.list.as_bytes()));
            let was = script.looked.get(&place).copied();
            let applied = group.with_machine(Machine::applied);
            if was.is_some_and(|(index, there)| there || index == applied) {
                continue;
            }
            let there = group.with_machine(|machine| script.is_in(machine));
            script.looked.insert(place, (applied, there));
            if there {
                script.group = Some(group.id());
                // What was there at the first look may have come with a snapshot.
                taken = taken.or(was.map(|_| (group.id(), script.takes_ms)));
            }
        }
        taken
    }

    /// How many were acknowledged although their group had another leader meanwhile: `elections` says when there was a new one.
    pub fn across(&self, elections: &[(GroupId, u64)]) -> u64 {
        let is_across = |script: &&LongScript| {
            let meanwhile = script.began_ms + 1..script.acknowledged_ms.unwrap_or(0);
            elections.iter().any(|(group, at_ms)| script.group == Some(*group) && meanwhile.contains(at_ms))
        };
        self.0.iter().filter(is_across).count() as u64
    }
}

impl LongScript {
    fn is_in(&self, machine: &Machine) -> bool {
        let call = Call::new(["GET".to_owned(), self.list.clone()]);
        match &machine.read(&[call], 0, 0)[..] {
            [Read::Reply(Reply::Bulk(text))] => {
                let token = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
                // The newest stand at the end.
                text.rsplit(|byte| *byte == b',').any(|word| token(word) == Some(self.token))
            }
            _ => false,
        }
    }
}
