//! Rules, what they allow, and how they are told.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::command;
use crate::entry::Message;

fn words(text: &str) -> Vec<Bytes> {
    text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// A user under `rules`, which are right.
fn user(rules: &str) -> User {
    let mut user = User::new(b"u");
    for rule in merged(&words(rules)).expect("parentheses that match") {
        user.apply(&rule, Defaults::default()).unwrap_or_else(|error| panic!("{rule:?}: {error}"));
    }
    user
}

fn text(rules: &[Bytes]) -> String {
    String::from_utf8(rules.join(&b' ')).expect("text")
}

/// What `user` is told of a call, in a word.
fn verdict(user: &User, call: &str) -> String {
    let words = words(call);
    let row = command::lookup(&words).expect("a command");
    match user.check(row, &words) {
        Ok(()) => "ok".to_string(),
        Err(denied) => {
            let refused = denied.of(row, &words);
            format!("{:?} {}", refused.reason, String::from_utf8_lossy(&refused.object)).to_lowercase()
        }
    }
}

#[test]
fn rules_allow_what_they_say() {
    let cases = [
        ("+get ~a*", "get a1", "ok"),
        ("+get ~a*", "GET b", "key b"),
        ("+get ~a*", "set a1 x", "command set"),
        ("+@read ~*", "lrange l 0 1", "ok"),
        ("+@all -@dangerous ~*", "flushall", "command flushall"),
        ("+@all -config|set ~*", "config set a b", "command config|set"),
        ("+@all -config|set ~*", "config get a", "ok"),
        ("-@all +client|id", "client id", "ok"),
        ("-@all +client|id", "client list", "command client|list"),
        ("-@all +select|0", "select 0", "ok"),
        ("-@all +select|0", "select 1", "command select"),
        ("-@all", "auth a b", "ok"),
        ("+@all %R~r* %W~w*", "get r", "ok"),
        ("+@all %R~r* %W~w*", "get w", "key w"),
        ("+@all %R~r* %W~w*", "set w 1", "ok"),
        ("+@all %R~r* %W~w*", "set w 1 get", "key w"),
        ("+@all %R~r* %W~w*", "set w get", "ok"),
        ("+@all %R~r* %W~w*", "exists w r", "ok"),
        ("+@all %R~r* %W~w*", "copy r w", "ok"),
        ("+@all %R~r* %W~w*", "copy w r", "key w"),
        ("+@all %R~r* %W~w*", "sort r store w", "ok"),
        ("+@all %R~r* %W~w*", "sort r store r", "key r"),
        ("+@all %R~r* %W~w*", "bitop and w r r", "ok"),
        ("+@all %R~r* %W~w*", "bitop and r r r", "key r"),
        ("+@all %R~r* %W~w* ~b*", "eval x 1 b", "ok"),
        ("+@all %R~r* %W~w* ~b*", "eval x 1 r", "key r"),
        ("+@all %R~r* %W~w* ~b*", "eval x 0 other", "ok"),
        ("+@all ~a", "xread count 1 streams a b 0 0", "key b"),
        ("+@all ~a", "mget a c b", "key c"),
        ("+@all ~* &news.*", "publish news.1 x", "ok"),
        ("+@all ~* &news.*", "publish old x", "channel old"),
        ("+@all ~* &news.*", "subscribe news.1 old", "channel old"),
        ("+@all ~* &news.*", "psubscribe news.1*", "channel news.1*"),
        ("+@all ~* &news.*", "psubscribe news.*", "ok"),
        ("+@all ~* &news.*", "spublish old x", "channel old"),
        ("+@all ~a &news.*", "ssubscribe news.1", "ok"),
        ("+@all ~a &news.*", "unsubscribe old", "ok"),
        ("+@write ~w (+@read ~r)", "get r", "ok"),
        ("+@write ~w (+@read ~r)", "get w", "key w"),
        ("+@write ~w (+@read ~r)", "ping", "command ping"),
        ("+mget ~key (+mget ~key ~otherkey)", "mget otherkey someotherkey", "key someotherkey"),
    ];
    for (rules, call, expected) in cases {
        assert_eq!(verdict(&user(rules), call), expected, "{rules}: {call}");
    }
}

/// They act for clients that another node has checked.
#[test]
fn what_nodes_ask_of_each_other_is_for_the_almighty_alone() {
    for call in ["quoris transaction x", "quoris group 0 keys *", "quoris versions k", "quoris forwarded"] {
        assert_eq!(verdict(&user("+@all ~* &*"), call), "ok");
        for rules in ["+@all ~a* &*", "+@all ~* &a*", "+@all -get ~* &*"] {
            assert!(verdict(&user(rules), call).starts_with("command quoris|"), "{rules}: {call}");
        }
    }
    assert_eq!(verdict(&user("+@all ~a*"), "quoris status"), "ok");
}

#[test]
fn rules_are_told_as_redis_tells_them() {
    let cases = [
        ("", "off resetchannels -@all"),
        ("on nopass +@all ~* &*", "on nopass ~* &* +@all"),
        ("on +@all -@string ~a %R~b %W~b &c", "on ~a ~b resetchannels &c +@all -@string"),
        ("%R~x %W~y", "off %R~x %W~y resetchannels -@all"),
        ("+@all -client|kill", "off resetchannels +@all -client|kill"),
        ("+memory|doctor +memory", "off resetchannels -@all +memory"),
        ("+select|0 +select|1", "off resetchannels -@all +select|0 +select|1"),
        ("+select|0 +select", "off resetchannels -@all +select"),
        ("+debug|segfault +debug|object", "off resetchannels -@all +debug|segfault +debug|object"),
        ("%R~a %R~* %W~*", "off ~* resetchannels -@all"),
        ("+@all -get +get +get|x", "off resetchannels +@all"),
        ("reset", "off sanitize-payload resetchannels -@all"),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
        (
            "( ~a  +get ) (+@all)",
            "off resetchannels -@all (~a resetchannels -@all +get) (resetchannels +@all)",
        ),
        ("(+get) clearselectors", "off resetchannels -@all"),
    ];
    for (rules, expected) in cases {
        assert_eq!(text(&user(rules).describe()), expected, "{rules}");
    }
}

#[test]
fn every_category_is_told_as_itself() {
    for (name, _) in category::NAMES {
        let (without, only) = (user(&format!("+@all -@{name}")), user(&format!("+@{name}")));
        assert_eq!(text(&without.root().describe_commands()), format!("+@all -@{name}"));
        assert_eq!(text(&only.root().describe_commands()), format!("-@all +@{name}"));
    }
}

#[test]
fn wrong_rules_are_refused_with_what_is_wrong() {
    let cases = [
        ("", "+nosuch", RuleError::Unknown),
        ("", "+@nosuch", RuleError::Unknown),
        ("", "+config|nosuch", RuleError::Unknown),
        ("", "-config|nosuch", RuleError::Unknown),
        ("", "+get|key1|key2", RuleError::Unknown),
        ("", "+config|get|appendonly", RuleError::FirstArgOfSubcommand),
        ("", "+select|", RuleError::Syntax),
        ("", "nosuch", RuleError::Syntax),
        ("", ")", RuleError::Syntax),
        ("", " () ", RuleError::Syntax),
        ("", "~a b", RuleError::Syntax),
        ("", "%X~a", RuleError::Syntax),
        ("", "%~a", RuleError::Syntax),
        ("", "(nosuch)", RuleError::Syntax),
        ("", "(&* &fail)", RuleError::AfterAllChannels),
        ("~*", "~a", RuleError::AfterAllKeys),
        ("&*", "&a", RuleError::AfterAllChannels),
        (">a", "<b", RuleError::NoSuchPassword),
        ("", "#12", RuleError::NoHash),
    ];
    for (before, rule, expected) in cases {
        let mut user = user(before);
        assert_eq!(user.apply(rule.as_bytes(), Defaults::default()), Err(expected), "{before} {rule}");
    }
    assert!(merged(&words("on (+get")).is_err());
}

#[test]
fn passwords_let_in_who_knows_them() {
    let mut known = user("on >one >two");
    assert!(known.lets_in(b"one") && known.lets_in(b"two") && !known.lets_in(b"three"));
    assert!(!text(&known.describe()).contains("one"));
    known.apply(b"<one", Defaults::default()).expect("a password that it has");
    assert!(!known.lets_in(b"one") && known.lets_in(b"two"));
    assert!(user("on nopass").lets_in(b"any") && user("on nopass").is_open());
    assert!(!user("off nopass").lets_in(b"any") && !user("off nopass").is_open());
    assert!(!user("on").lets_in(b""), "no password, and none needed, are two things");
    let guarded = user("on nopass").with_password(b"node");
    assert!(guarded.lets_in(b"node") && !guarded.lets_in(b"any") && !guarded.is_open());
}

#[test]
fn what_is_proposed_holds_no_password_and_means_the_same_everywhere() {
    let users = Users::default();
    let call = words("ACL SETUSER bob on >secret (+get ~a)");
    let defaults = Defaults { all_channels: true };
    let proposed = prepared(&call, &users, defaults, || "key".to_string()).expect("rules");
    assert!(!proposed.iter().any(|word| word.windows(6).any(|part| part == b"secret")));
    let mut known = KnownUsers::default();
    known.set(&proposed[2], &proposed[3..]).expect("rules");
    let bob = known.get().get(b"bob").expect("a user");
    assert!(bob.lets_in(b"secret"));
    assert_eq!(text(&bob.describe_rights()), "&* -@all (~a &* -@all +get)");
    assert_eq!(known.get().relay_key(), "key");
    let again = prepared(&call, known.get(), Defaults::default(), || unreachable!("there is one"));
    assert_eq!(again.expect("rules").len(), 6);
    let wrong = prepared(&words("acl setuser bob <other"), known.get(), defaults, String::new);
    assert!(wrong.expect_err("no such password").to_string().contains("'<other'"));
}

#[test]
fn users_survive_a_snapshot() {
    let mut known = KnownUsers::default();
    assert_eq!(known.get().state(), (Vec::new(), Bytes::new()), "nothing is said of what is everywhere");
    // Patterns that end like a selector does.
    known.set(&"a".into(), &words(&format!("on ~x) #{}", hash(b"p")))).expect("rules");
    known.set(&"b".into(), &["(~y) +get %R~(z) )".into(), "%R~*".into()]).expect("rules");
    known.set(&"default".into(), &words("off")).expect("rules");
    let (states, key) = known.get().state();
    let states: Vec<_> = states
        .iter()
        .map(|state| crate::entry::UserState::decode(Bytes::from(state.encode_to_vec())).expect("a user"))
        .collect();
    assert_eq!(Users::restored(&states, key).as_ref(), Some(&**known.get()));
    assert_eq!(Users::restored(&states[..2], Bytes::new()), None, "the default user is missing");
}

fn rule() -> impl Strategy<Value = String> {
    let rows = command::rows().len();
    prop_oneof![
        (0..rows, any::<bool>()).prop_map(|(row, add)| {
            format!("{}{}", if add { '+' } else { '-' }, command::rows()[row].full_name())
        }),
        (0..category::NAMES.len(), any::<bool>())
            .prop_map(|(at, add)| { format!("{}@{}", if add { '+' } else { '-' }, category::NAMES[at].0) }),
        "[~&][a-c*()]{1,3}",
        "%(R|W|RW)~[a-c*()]{1,3}",
        prop_oneof![
            Just("+@all"),
            Just("-@all"),
            Just("resetkeys"),
            Just("resetchannels"),
            Just("on"),
            Just("nopass"),
            Just(">a"),
            Just("reset"),
            Just("+select|0"),
            Just("+debug|x"),
            Just("(+get ~a) "),
            Just("allkeys"),
        ]
        .prop_map(str::to_string),
    ]
}

proptest! {
    /// What a user is told of as makes the same user: snapshots, and scripts' entries, rely on it.
    #[test]
    fn what_is_told_of_a_user_makes_it_again(rules in proptest::collection::vec(rule(), 0..12)) {
        let mut user = User::new(b"u");
        for rule in rules {
            // Some do not fit what came before: they change nothing.
            let _ = user.apply(rule.trim().as_bytes(), Defaults::default());
        }
        let again = User::described(b"u", &user.describe()).expect("rules");
        prop_assert_eq!(again.describe(), user.describe());
        prop_assert_eq!(&again, &user);
        for row in command::rows() {
            let call = words(&format!("{} 0 a b", row.full_name().replace('|', " ")));
            prop_assert_eq!(again.check(*row, &call), user.check(*row, &call));
        }
    }
}
