//! What is sent: the workloads, as commands of Redis.
//!
//! Collections are few (a hundredth of the keys) and do not grow beyond some size, so that a long run measures what a
//! short one does. Their keys carry the plain key as hash tag, and so belong to the same node.

use anyhow::Result;
use clap::{Args, ValueEnum};
use quoris_engine::script::scripts::sha1_hex;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::keys::{self, Share};
use crate::wire;

const FIELDS: u32 = 100;
const MEMBERS: u32 = 1000;
const STREAM_LENGTH: &[u8] = b"1000";
/// For how long a script's answer is kept, in seconds.
const KEEP_S: &[u8] = b"5";
/// Commands of a MULTI.
const SETS_OF_A_TRANSACTION: u32 = 5;

/// What is sent, whichever way its times are chosen.
#[derive(Args, Clone)]
pub struct Work {
    /// To whom.
    #[command(flatten)]
    pub target: Target,
    /// Which commands.
    #[arg(long, value_enum)]
    pub mix: Workload,
    /// Over how many connections.
    #[arg(long)]
    pub connections: usize,
    /// Length of the measured part.
    #[arg(long)]
    pub seconds: f64,
    /// Load before the measured part.
    #[arg(long, default_value_t = 1.0)]
    pub warmup_seconds: f64,
}

/// The server and the data.
#[derive(Args, Clone)]
pub struct Target {
    /// Any node of the cluster, or a single server.
    #[arg(long)]
    pub addr: String,
    /// The server is etcd, and this node leads.
    #[arg(long)]
    pub etcd: bool,
    /// How many keys there are.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u32,
    /// Length of every value.
    #[arg(long, default_value_t = 128)]
    pub value_bytes: usize,
    /// End each run that writes with `WAIT <this many> 0`: Redis's way to know that so many replicas have it.
    #[arg(long, default_value_t = 0)]
    pub wait: u32,
}

/// The commands sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// SET of any key.
    Set,
    /// GET of any key.
    Get,
    /// Each command is SET or GET with equal chance.
    Mixed,
    /// One SET in twenty commands, the others GET.
    Reads,
    /// INCR of one of the counters.
    Incr,
    /// HSET of one of 100 fields.
    Hset,
    /// ZADD of one of 1000 members, with a new score.
    Zadd,
    /// XADD to a stream that is trimmed to about 1000 entries.
    Xadd,
    /// MULTI, five SETs, EXEC; it counts as one command.
    Multi,
    /// EVALSHA of examples/payments: two reads and four writes, one of them to a stream.
    Transfer,
    /// EVALSHA of examples/leaderboard: ZINCRBY, XADD, and the request's answer.
    Score,
    /// EVALSHA of rank.lua: ZADD and XADD alone.
    Rank,
    /// EVALSHA of examples/inventory: a number, a stream, and the request's answer.
    Buy,
}

impl Workload {
    /// The script that it calls.
    pub fn script(self) -> Option<&'static str> {
        match self {
            Workload::Transfer => Some(include_str!("../../../../examples/payments/transfer.lua")),
            Workload::Score => Some(include_str!("../../../../examples/leaderboard/score.lua")),
            Workload::Rank => Some(include_str!("rank.lua")),
            Workload::Buy => Some(include_str!("../../../../examples/inventory/buy.lua")),
            _ => None,
        }
    }

    /// Whether its next command writes.
    pub fn writes(self, rng: &mut SmallRng) -> bool {
        match self {
            Workload::Get => false,
            Workload::Mixed => rng.random(),
            Workload::Reads => rng.random_ratio(1, 20),
            _ => true,
        }
    }

    /// Whether all its commands write, or none does.
    pub fn is_uniform(self) -> bool {
        !matches!(self, Workload::Mixed | Workload::Reads)
    }

    /// A key out of those it uses.
    pub fn key(self, share: &Share, rng: &mut SmallRng) -> u32 {
        let all = share.keys.len();
        let used = match self {
            Workload::Set | Workload::Get | Workload::Mixed | Workload::Reads | Workload::Incr => all,
            Workload::Multi => all / SETS_OF_A_TRANSACTION as usize,
            _ => all / 100,
        };
        share.keys[rng.random_range(0..used.max(1))]
    }
}

/// Makes the commands of one connection.
pub struct Composer {
    workload: Workload,
    rng: SmallRng,
    value: Vec<u8>,
    sha: String,
    wait: Option<Vec<u8>>,
}

impl Composer {
    /// For the workload at a target; every `rng` makes commands of its own.
    pub fn new(workload: Workload, target: &Target, rng: SmallRng) -> Self {
        let sha = workload.script().map(|text| sha1_hex(text.as_bytes())).unwrap_or_default();
        let wait =
            (target.wait > 0).then(|| wire::command(&[b"WAIT", target.wait.to_string().as_bytes(), b"0"]));
        Self { workload, rng, value: vec![b'x'; target.value_bytes], sha, wait }
    }

    /// Appends a run of `count` commands, and how many replies it will have.
    pub fn run(&mut self, share: &Share, count: usize, out: &mut Vec<u8>) -> usize {
        let (mut replies, mut wrote) = (0, false);
        for _ in 0..count {
            let writes = self.workload.writes(&mut self.rng);
            wrote |= writes;
            replies += self.command(share, writes, out);
        }
        if let (true, Some(wait)) = (wrote, &self.wait) {
            out.extend_from_slice(wait);
            replies += 1;
        }
        replies
    }

    fn command(&mut self, share: &Share, writes: bool, out: &mut Vec<u8>) -> usize {
        let (rng, value) = (&mut self.rng, &self.value[..]);
        let key = self.workload.key(share, rng);
        let name = |suffix: &str| keys::tagged(key, suffix);
        match self.workload {
            Workload::Set | Workload::Get | Workload::Mixed | Workload::Reads => match writes {
                true => wire::encode(out, &[b"SET", &keys::name(key), value]),
                false => wire::encode(out, &[b"GET", &keys::name(key)]),
            },
            Workload::Incr => wire::encode(out, &[b"INCR", &name("n")]),
            Workload::Hset => {
                let field = format!("field:{}", rng.random_range(0..FIELDS));
                wire::encode(out, &[b"HSET", &name("h"), field.as_bytes(), value]);
            }
            Workload::Zadd => {
                let score = rng.random_range(0..1_000_000).to_string();
                let member = format!("member:{}", rng.random_range(0..MEMBERS));
                wire::encode(out, &[b"ZADD", &name("z"), score.as_bytes(), member.as_bytes()]);
            }
            Workload::Xadd => {
                wire::encode(out, &[b"XADD", &name("x"), b"MAXLEN", b"~", STREAM_LENGTH, b"*", b"f", value]);
            }
            Workload::Multi => {
                wire::encode(out, &[b"MULTI"]);
                for number in 0..SETS_OF_A_TRANSACTION {
                    wire::encode(out, &[b"SET", &name(&format!("m{number}")), value]);
                }
                wire::encode(out, &[b"EXEC"]);
                return SETS_OF_A_TRANSACTION as usize + 2;
            }
            Workload::Transfer | Workload::Score | Workload::Buy => self.script_call(key, out),
            Workload::Rank => {
                let score = rng.random_range(0..1_000_000).to_string();
                let member = format!("member:{}", rng.random_range(0..MEMBERS));
                let (board, history) = (name("rank"), name("rank:x"));
                let words: [&[u8]; 7] = [
                    b"EVALSHA",
                    self.sha.as_bytes(),
                    b"2",
                    &board,
                    &history,
                    member.as_bytes(),
                    score.as_bytes(),
                ];
                wire::encode(out, &words);
            }
        }
        1
    }

    /// The amounts are below 0 where a script refuses what is not there, so that nothing needs filling.
    fn script_call(&mut self, key: u32, out: &mut Vec<u8>) {
        let number = self.rng.random::<u64>().to_string();
        let who = format!("member:{}", self.rng.random_range(0..MEMBERS));
        let arguments: &[&[u8]] = match self.workload {
            Workload::Transfer => &[b"a", b"b", b"-1"],
            Workload::Score => &[who.as_bytes(), b"3"],
            _ => &[who.as_bytes(), b"-1"],
        };
        // One name a workload: what its scripts make is of their own types.
        let [first, second, answer] =
            ["1", "2", &number].map(|part| keys::tagged(key, &format!("{:?}:{part}", self.workload)));
        let head: &[&[u8]] =
            &[b"EVALSHA", self.sha.as_bytes(), b"3", &first, &second, &answer, number.as_bytes()];
        wire::encode(out, &[head, arguments, &[KEEP_S]].concat());
    }
}

/// The number of replies to one run of one command, the same for every one.
pub fn replies_to_one(workload: Workload, target: &Target) -> Result<usize> {
    anyhow::ensure!(workload.is_uniform(), "a fixed rate needs commands of one kind");
    let waits = target.wait > 0 && workload != Workload::Get;
    let own = if workload == Workload::Multi { SETS_OF_A_TRANSACTION as usize + 2 } else { 1 };
    Ok(own + usize::from(waits))
}
