use proptest::prelude::*;

use crate::value::Bounds;

use super::*;
use crate::value::Value;

/// A payload by its name in the file of those that Redis made.
fn made_by_redis(name: &str) -> Vec<u8> {
    let lines = include_str!("testdata/redis-7.0.15").lines().filter(|line| !line.starts_with('#'));
    let mut named = lines.filter_map(|line| line.split_once(' ')).filter(|(of, _)| *of == name);
    let (_, hex) = named.next().unwrap_or_else(|| panic!("no payload {name}"));
    hex.as_bytes()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("ASCII"), 16).expect("hexadecimal"))
        .collect()
}

const NAMES: [&str; 23] = [
    "string_empty",
    "string",
    "string_int8",
    "string_int16",
    "string_int32",
    "string_int64",
    "string_lzf",
    "string_lzf_far",
    "list",
    "list_nodes",
    "list_plain",
    "set_int16",
    "set_int32",
    "set_int64",
    "set",
    "hash",
    "hash_big",
    "zset",
    "zset_big",
    "stream",
    "stream_groups",
    "stream_empty",
    "hyperloglog",
];

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn all(words: &[&str]) -> Vec<Bytes> {
    words.iter().copied().map(bytes).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    pairs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
}

fn hash(fields: &[(&str, &str, u64)]) -> Content {
    Content::Hash(fields.iter().map(|(name, value, at)| (bytes(name), bytes(value), *at)).collect())
}

fn sorted_set(elements: &[(&str, f64)]) -> Content {
    Content::Zset(elements.iter().map(|(element, score)| (bytes(element), *score)).collect())
}

/// `body` with the footer of version 10.
fn payload(body: &[u8]) -> Vec<u8> {
    let mut payload = [body, &VERSION.to_le_bytes()].concat();
    payload.extend(CRC.checksum(&payload).to_le_bytes());
    payload
}

/// `payload` with the checksum that its bytes have.
fn resealed(mut payload: Vec<u8>) -> Vec<u8> {
    let len = payload.len() - 8;
    let sum = CRC.checksum(&payload[..len]).to_le_bytes();
    payload[len..].copy_from_slice(&sum);
    payload
}

#[test]
fn strings_of_redis_are_read() {
    for (name, text) in [
        ("string_empty", String::new()),
        ("string", "foo".to_string()),
        ("string_int8", "-5".to_string()),
        ("string_int16", "-1000".to_string()),
        ("string_int32", "100000".to_string()),
        ("string_int64", "12345678901".to_string()),
        ("string_lzf", "a".repeat(20_000) + "b"),
        ("string_lzf_far", "0123456789".repeat(30)),
    ] {
        assert_eq!(Content::load(&made_by_redis(name)), Ok(Content::String(bytes(&text))), "{name}");
    }
}

#[test]
fn strings_are_written_as_redis_does_unless_it_compresses() {
    for name in NAMES.into_iter().filter(|name| name.starts_with("string") && !name.contains("lzf")) {
        let made = made_by_redis(name);
        assert_eq!(Content::load(&made).expect("a payload").dump(), made, "{name}");
    }
}

#[test]
fn collections_of_redis_are_read() {
    let list = [
        "a",
        "1",
        "-70",
        "4095",
        "-4096",
        "70000",
        "-9000000",
        "3000000000",
        "9223372036854775807",
        &"b".repeat(70),
        &"c".repeat(5000),
        "",
    ];
    for (name, content) in [
        ("list", Content::List(all(&list))),
        ("list_nodes", Content::List(all(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]))),
        ("list_plain", Content::List(all(&["x", &"y".repeat(200), "z"]))),
        ("set_int16", Content::Set(all(&["-3", "1", "2"]))),
        ("set_int32", Content::Set(all(&["1", "100000"]))),
        ("set_int64", Content::Set(all(&["1", "100000000000"]))),
        ("hash", hash(&[("a", "1", NEVER), ("b", "x", NEVER)])),
        ("zset", sorted_set(&[("c", f64::NEG_INFINITY), ("a", 1.0), ("b", 2.5), ("d", 3e20)])),
        ("zset_big", sorted_set(&[(&"b".repeat(70), f64::INFINITY), ("a", 0.1), ("c", -1.0)])),
    ] {
        assert_eq!(Content::load(&made_by_redis(name)), Ok(content), "{name}");
    }
    // Redis's hash tables have an order of their own.
    let Ok(Content::Set(mut set)) = Content::load(&made_by_redis("set")) else { panic!("a set") };
    set.sort();
    assert_eq!(set, all(&["1", "a", "b"]));
    let Ok(Content::Hash(mut big)) = Content::load(&made_by_redis("hash_big")) else { panic!("a hash") };
    big.sort();
    assert_eq!(Content::Hash(big), hash(&[("a", "1", NEVER), ("b", &"x".repeat(70), NEVER)]));
}

#[test]
fn streams_of_redis_are_read() {
    let stream = StreamContent {
        entries: vec![
            ((5, 1), pairs(&[("a", "1"), ("b", "x")])),
            ((7, 0), pairs(&[("other", "z")])),
            ((8, 0), pairs(&[("a", "-3"), ("b", "w")])),
        ],
        last_id: (8, 0),
        max_deleted_id: (5, 2),
        entries_added: 4,
        groups: Vec::new(),
    };
    assert_eq!(Content::load(&made_by_redis("stream")), Ok(Content::Stream(Box::new(stream))));
    let Ok(Content::Stream(empty)) = Content::load(&made_by_redis("stream_empty")) else {
        panic!("a stream")
    };
    assert_eq!((empty.entries.len(), empty.groups[0].entries_read), (0, None));
}

#[test]
fn groups_of_redis_are_read() {
    let loaded = Content::load(&made_by_redis("stream_groups"));
    let Ok(Content::Stream(stream)) = loaded else { panic!("a stream") };
    let [g, h] = &stream.groups[..] else { panic!("two groups") };
    let names = |group: &Group| group.consumers.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(g), names(h)), (all(&["alice", "bob"]), all(&["carol"])));
    assert_eq!((g.last_id, g.entries_read, h.last_id, h.entries_read), ((6, 1), Some(2), (6, 1), None));
    let alices = Delivery { id: (5, 1), consumer: 0, delivered_ms: 1_700_000_000_000, count: 3 };
    let bobs = Delivery { id: (6, 1), consumer: 1, delivered_ms: 1_700_000_000_001, count: 1 };
    assert_eq!((&g.pending, &h.pending), (&vec![alices, bobs], &Vec::new()));
    assert!(g.consumers[0].seen_ms > 1_700_000_000_000);
}

/// A ziplist of strings and of integers below 13, which stand in their own encoding.
fn ziplist(words: &[&str]) -> Vec<u8> {
    let (mut entries, mut before, mut last) = (Vec::new(), 0, 10);
    for word in words {
        let at = entries.len();
        last = 10 + at;
        match u8::try_from(before) {
            Ok(short) if short < 254 => entries.push(short),
            _ => entries.extend([&[254][..], &(before as u32).to_le_bytes()].concat()),
        }
        match word.parse::<i64>() {
            Ok(small @ 0..=12) => entries.push(0xf1 + small as u8),
            Ok(int) if i8::try_from(int).is_ok() => entries.extend([0xfe, int as u8]),
            Ok(int) => entries.extend([&[0xe0][..], &int.to_le_bytes()].concat()),
            Err(_) => {
                match word.len() {
                    len @ ..64 => entries.push(len as u8),
                    len => entries.extend([0x40 | (len >> 8) as u8, len as u8]),
                }
                entries.extend(word.as_bytes());
            }
        }
        before = entries.len() - at;
    }
    let total = (entries.len() + 11) as u32;
    let mut ziplist = [total.to_le_bytes(), (last as u32).to_le_bytes()].concat();
    ziplist.extend((words.len() as u16).to_le_bytes());
    ziplist.extend(entries);
    ziplist.push(0xff);
    ziplist
}

fn listpack(words: &[&str]) -> Vec<u8> {
    let mut builder = listpack::Builder::new();
    words.iter().for_each(|word| builder.push(word.as_bytes()));
    builder.finish()
}

/// A payload of `kind` whose value `write` writes.
fn written(kind: u8, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(kind);
    write(&mut out);
    payload(&out.into_bytes())
}

/// Payloads of other versions than 7.0, and what is in them.
fn of_other_versions() -> Vec<(Vec<u8>, Content)> {
    let long = "x".repeat(300);
    let words = ["a", "5", "-70", &long, "12345678901", "b"];
    let in_string = |kind, bytes: Vec<u8>| written(kind, |out| out.plain(&bytes));
    let list = |words: &[&str]| Content::List(all(words));
    vec![
        (in_string(kind::LIST_ZIPLIST, ziplist(&words)), list(&words)),
        (
            written(kind::LIST_OF_ZIPLISTS, |out| {
                out.each(&[ziplist(&words), ziplist(&["c"])], |out, node| out.plain(node));
            }),
            list(&[&words[..], &["c"]].concat()),
        ),
        (in_string(kind::SET_LISTPACK, listpack(&["a", "-1"])), Content::Set(all(&["a", "-1"]))),
        (in_string(kind::HASH_ZIPLIST, ziplist(&["a", "1"])), hash(&[("a", "1", NEVER)])),
        (
            in_string(kind::ZSET_ZIPLIST, ziplist(&["a", "1", "b", "2.5"])),
            sorted_set(&[("a", 1.0), ("b", 2.5)]),
        ),
        (
            written(kind::ZSET_TEXT, |out| {
                out.raw(b"\x03\x01a\x032.5\x01b\xfe\x01c\xff");
            }),
            sorted_set(&[("a", 2.5), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY)]),
        ),
        (
            written(kind::TIMED_HASH_LISTPACK, |out| {
                out.raw(&1_800_000_000_000u64.to_le_bytes());
                out.plain(&listpack(&["a", "1", "1800000000000", "b", "2", "0"]));
            }),
            hash(&[("a", "1", 1_800_000_000_000), ("b", "2", NEVER)]),
        ),
    ]
}

#[test]
fn payloads_of_other_versions_are_read() {
    for (payload, content) in of_other_versions() {
        assert_eq!(Content::load(&payload), Ok(content));
    }
}

#[test]
fn streams_of_other_versions_are_read() {
    let node = listpack(&["1", "0", "1", "f", "0", "2", "0", "0", "v", "4"]);
    let head = |out: &mut Writer| {
        out.len(1);
        out.plain(&[5u64.to_be_bytes(), 1u64.to_be_bytes()].concat());
        out.plain(&node);
        [1, 5, 1].into_iter().for_each(|number| out.len(number));
    };
    let entries = vec![((5, 1), pairs(&[("f", "v")]))];
    // Nor did it write how many entries a group has read.
    let of_5 = written(kind::STREAM, |out| {
        head(out);
        out.each(&[(b"a", 0u64), (b"b", 5), (b"c", 9)], |out, (name, ms)| {
            out.string(*name);
            [*ms, u64::from(*ms == 5), 0, 0].into_iter().for_each(|number| out.len(number));
        });
    });
    let group = |name: &'static str, last_id, entries_read| Group {
        name: Bytes::from(name),
        last_id,
        entries_read,
        consumers: Vec::new(),
        pending: Vec::new(),
    };
    let groups = vec![group("a", (0, 0), Some(0)), group("b", (5, 1), Some(1)), group("c", (9, 0), None)];
    let expected =
        StreamContent { entries, last_id: (5, 1), entries_added: 1, groups, ..StreamContent::default() };
    assert_eq!(Content::load(&of_5), Ok(Content::Stream(Box::new(expected))));

    let of_7_2 = written(kind::STREAM_3, |out| {
        head(out);
        [5, 1, 0, 0, 1].into_iter().for_each(|number| out.len(number));
        out.len(1);
        out.string(b"g");
        [0, 0, 0, 0].into_iter().for_each(|number| out.len(number));
        out.each(&[(b"c", 77u64), (b"d", u64::MAX)], |out, (name, active)| {
            out.string(&name[..]);
            out.raw(&99u64.to_le_bytes());
            out.raw(&active.to_le_bytes());
            out.len(0);
        });
    });
    let Ok(Content::Stream(stream)) = Content::load(&of_7_2) else { panic!("a stream") };
    let active: Vec<_> = stream.groups[0].consumers.iter().map(|consumer| consumer.active_ms).collect();
    assert_eq!(active, [Some(77), None]);
}

#[test]
fn footers_are_checked() {
    let made = made_by_redis("list");
    for at in 0..made.len() {
        let mut damaged = made.clone();
        damaged[at] ^= 4;
        assert_eq!(Content::load(&damaged), Err(Refused::Footer), "byte {at}");
        assert_eq!(Content::load(&made[..at]), Err(Refused::Footer), "cut at {at}");
    }
    let mut newer = made;
    let version = newer.len() - FOOTER_BYTES;
    newer[version] = 13;
    assert_eq!(Content::load(&resealed(newer)), Err(Refused::Footer));
}

#[test]
fn impossible_values_are_refused() {
    let empty = |kind| written(kind, |out| out.len(0));
    for payload in [
        empty(kind::LIST),
        empty(kind::SET),
        empty(kind::HASH),
        empty(kind::ZSET),
        empty(kind::LIST_OF_LISTPACKS),
        written(kind::HASH_LISTPACK, |out| out.plain(&listpack(&[]))),
        written(kind::HASH_LISTPACK, |out| out.plain(&listpack(&["odd"]))),
        written(kind::ZSET_LISTPACK, |out| out.plain(&listpack(&["a", "x"]))),
        written(kind::ZSET, |out| {
            out.raw(b"\x01\x01a");
            out.raw(&f64::NAN.to_le_bytes());
        }),
        written(kind::STRING, |out| out.raw(b"\x01ab")),
        written(kind::STRING, |out| out.raw(b"")),
        written(6, |out| out.raw(b"module")),
        payload(b""),
        // More than there is: 2^63 elements, and a string of 512 MB and one that 10 bytes are to give.
        written(kind::LIST, |out| out.len(1 << 63)),
        written(kind::STRING, |out| out.len(512 << 20)),
        written(kind::STRING, |out| {
            out.byte(0xc3);
            out.len(10);
            out.len(1 << 40);
            out.raw(b"\x00a\xe0\xff\x00\xe0\xff\x00\xe0\xff");
        }),
    ] {
        assert_eq!(Content::load(&payload), Err(Refused::Data), "{payload:02x?}");
    }
    let twice = hash(&[("a", "1", NEVER), ("a", "2", NEVER)]);
    assert!(Content::load(&twice.dump()).expect("whole").into_value(&Bounds::default()).is_none());
}

fn word() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        "[a-z]{0,100}".prop_map(Bytes::from),
        any::<i64>().prop_map(|int| Bytes::from(int.to_string())),
        (-5000i64..5000).prop_map(|int| Bytes::from(int.to_string())),
        (0usize..6000).prop_map(|len| Bytes::from(vec![0xff; len])),
    ]
}

fn words() -> impl Strategy<Value = Vec<Bytes>> {
    proptest::collection::vec(word(), 1..40)
}

fn stream() -> impl Strategy<Value = StreamContent> {
    let entry = (proptest::collection::vec((word(), word()), 1..4), 1u64..1 << 40, any::<bool>());
    let entries = proptest::collection::vec(entry, 0..30);
    (entries, proptest::collection::vec(1u64..1000, 0..10)).prop_map(|(entries, pending)| {
        let (mut ms, mut stream) = (0, StreamContent::default());
        for (fields, after, sequence) in entries {
            ms += after;
            stream.entries.push(((ms, if sequence { ms } else { 0 }), fields));
        }
        stream.last_id = (ms, u64::MAX);
        stream.entries_added = u64::MAX;
        let consumer = |name: &str| Consumer { name: bytes(name), seen_ms: 5, active_ms: None };
        let mut ids = pending;
        ids.sort_unstable();
        ids.dedup();
        let deliver = |(i, id)| Delivery { id: (id, 7), consumer: i % 2, delivered_ms: id, count: id };
        stream.groups.push(Group {
            name: bytes("12"),
            last_id: (3, 4),
            entries_read: None,
            consumers: vec![consumer("a"), consumer("b")],
            pending: ids.into_iter().enumerate().map(deliver).collect(),
        });
        stream
    })
}

fn content() -> impl Strategy<Value = Content> {
    let time = prop_oneof![Just(NEVER), 1u64..1 << 46];
    prop_oneof![
        word().prop_map(Content::String),
        words().prop_map(Content::List),
        words().prop_map(Content::Set),
        proptest::collection::vec((word(), word(), time), 1..40).prop_map(Content::Hash),
        proptest::collection::vec((word(), -1e9..1e9), 1..40).prop_map(Content::Zset),
        stream().prop_map(|stream| Content::Stream(Box::new(stream))),
    ]
}

proptest! {
    #[test]
    fn content_survives(content in content()) {
        prop_assert_eq!(Content::load(&content.dump()), Ok(content));
    }

    #[test]
    fn values_survive(content in content()) {
        if let Some(value) = content.clone().into_value(&Bounds::default()) {
            let kept = Content::of(&value, 0);
            let again = Content::load(&kept.dump()).expect("whole").into_value(&Bounds::default()).expect("possible");
            prop_assert_eq!(Content::of(&again, 0), kept.clone());
            // Hashes, sets and sorted sets have an order of their own.
            if matches!(content, Content::String(_) | Content::List(_) | Content::Stream(_)) {
                prop_assert_eq!(kept, content);
            }
        }
    }

    #[test]
    fn lzf_takes_back_only_what_it_was(bytes in proptest::collection::vec(any::<u8>(), 0..100), len in 0usize..500) {
        if let Ok(unpacked) = lzf::unpack(&bytes, len) {
            prop_assert_eq!(unpacked.len(), len);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever has become of a payload whose checksum is right, it is read to an end, and what it gives can be kept
    /// and dumped.
    #[test]
    fn damage_does_no_harm(
        name in proptest::sample::select(&NAMES[..]),
        other in 0usize..20,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut payload = match of_other_versions().into_iter().nth(other) {
            Some((payload, _)) => payload,
            None => made_by_redis(name),
        };
        let body = payload.len() - FOOTER_BYTES;
        for (at, byte) in damage {
            payload[at.index(body)] = byte;
        }
        if let Some(cut) = cut {
            payload.drain(cut.index(body)..body);
        }
        if let Ok(content) = Content::load(&resealed(payload)) {
            prop_assert!(Content::load(&content.dump()).is_ok());
            content.into_value(&Bounds::default());
        }
    }
}

/// In Redis, too, small sorted sets know no -0, and big ones do, from their first element on.
#[test]
fn big_sorted_sets_keep_minus_zero() {
    for (len, negative) in [(128, false), (129, true)] {
        let elements = (0..len).map(|n| (Bytes::from(n.to_string()), -0.0)).collect();
        let value = Content::Zset(elements).into_value(&Bounds::default());
        let Some(Value::Zset(zset)) = value else { panic!("a sorted set") };
        assert!(zset.iter().all(|element| element.score.is_sign_negative() == negative), "{len} elements");
    }
}
