//! Up to which sizes values keep their compact forms.
//!
//! Clients see these bounds (OBJECT ENCODING, what an approximate XTRIM removes), and they decide what is state, so replicas
//! must agree on them: they travel in each entry's stamp, as the settings of the leader that made it, and nothing else in the
//! engine knows of settings. A value is judged by them when it is written, never afterwards: one that has grown under
//! other bounds stays what it is.

use crate::entry;

/// The bounds. [`Bounds::default`] is Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most fields of a small hash (`hash-max-listpack-entries`).
    pub hash_fields: usize,
    /// The longest field or value of a small hash, in bytes (`hash-max-listpack-value`).
    pub hash_bytes: usize,
    /// The most members of a set of integers (`set-max-intset-entries`).
    pub set_integers: usize,
    /// The most members of a small sorted set (`zset-max-listpack-entries`).
    pub zset_members: usize,
    /// The longest member of a small sorted set, in bytes (`zset-max-listpack-value`).
    pub zset_bytes: usize,
    /// The most entries of a stream's node (`stream-node-max-entries`).
    pub node_entries: u64,
    /// What the bytes of a stream's node stay below, unless a single entry takes more (`stream-node-max-bytes`).
    pub node_bytes: usize,
}

impl Bounds {
    /// What the small forms can hold at all, and more than any setting asks for.
    pub const WIDEST: Bounds = Bounds {
        hash_fields: u16::MAX as usize,
        hash_bytes: u32::MAX as usize,
        set_integers: 1 << 30,
        zset_members: u16::MAX as usize,
        zset_bytes: u8::MAX as usize,
        node_entries: u32::MAX as u64,
        node_bytes: 1 << 30,
    };

    /// The bounds of an entry: those of its stamp, or Redis's.
    pub fn of(stamp: Option<entry::Bounds>) -> Bounds {
        stamp.map_or(Bounds::default(), |stamp| {
            let fit =
                |wanted: u64, most: usize| usize::try_from(wanted).map_or(most, |wanted| wanted.min(most));
            // A node without a bound has 0 in Redis's settings.
            let or_widest = |wanted: u64| if wanted == 0 { u64::MAX } else { wanted };
            let widest = Bounds::WIDEST;
            Bounds {
                hash_fields: fit(stamp.hash_fields, widest.hash_fields),
                hash_bytes: fit(stamp.hash_bytes, widest.hash_bytes),
                set_integers: fit(stamp.set_integers, widest.set_integers),
                zset_members: fit(stamp.zset_members, widest.zset_members),
                zset_bytes: fit(stamp.zset_bytes, widest.zset_bytes),
                node_entries: or_widest(stamp.node_entries).min(widest.node_entries),
                node_bytes: fit(or_widest(stamp.node_bytes), widest.node_bytes),
            }
        })
    }
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            hash_fields: 512,
            hash_bytes: 64,
            set_integers: 512,
            zset_members: 128,
            zset_bytes: 64,
            node_entries: 100,
            node_bytes: 4096,
        }
    }
}
