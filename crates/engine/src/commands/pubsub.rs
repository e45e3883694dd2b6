//! The rows of publish and subscribe. The server runs them: messages are not state, and never in the log.

use crate::command::{Chapter, Command, Flags, Keys, Verb};

/// What subscribing and publishing have in common.
const FLAGS: Flags = Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE);

const PER_CHANNEL: &str = "O(N) where N is the number of channels.";

/// The rows. A shard channel stands where a key would, so that clients know which node to ask.
pub const COMMANDS: &[Command] = &[
    subscribing(
        "psubscribe",
        -2,
        Verb::Psubscribe,
        "2.0.0",
        "Listens to channels whose names match patterns.",
    ),
    publishing("publish", Keys::NONE, Verb::Publish, "2.0.0", "Posts a message to a channel."),
    Command::container("pubsub", PUBSUB).doc(
        Chapter::PubSub,
        "2.8.0",
        "Depends on subcommand.",
        "A container for Pub/Sub commands.",
    ),
    subscribing("punsubscribe", -1, Verb::Punsubscribe, "2.0.0", "Ends the listening to patterns."),
    publishing("spublish", Keys::ONE, Verb::Spublish, "7.0.0", "Posts a message to a shard channel."),
    Command {
        keys: Keys::ALL,
        ..subscribing("ssubscribe", -2, Verb::Ssubscribe, "7.0.0", "Listens to shard channels.")
    },
    subscribing("subscribe", -2, Verb::Subscribe, "2.0.0", "Listens to channels."),
    Command {
        keys: Keys::ALL,
        ..subscribing(
            "sunsubscribe",
            -1,
            Verb::Sunsubscribe,
            "7.0.0",
            "Ends the listening to shard channels.",
        )
    },
    subscribing("unsubscribe", -1, Verb::Unsubscribe, "2.0.0", "Ends the listening to channels."),
];

const PUBSUB: &[Command] = &[
    asking("channels", -2, Verb::PubsubChannels, "2.8.0", "Returns the channels that somebody listens to."),
    Command::session("help", 2, Verb::Help).doc(Chapter::PubSub, "6.2.0", PER_CHANNEL, "Prints this help."),
    asking("numpat", 2, Verb::PubsubNumpat, "2.8.0", "Returns how many patterns somebody listens to."),
    asking("numsub", -2, Verb::PubsubNumsub, "2.8.0", "Returns how many listen to channels."),
    asking(
        "shardchannels",
        -2,
        Verb::PubsubShardchannels,
        "7.0.0",
        "Returns the shard channels that somebody listens to.",
    ),
    asking("shardnumsub", -2, Verb::PubsubShardnumsub, "7.0.0", "Returns how many listen to shard channels."),
];

type Text = &'static str;

const fn subscribing(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).with(FLAGS).doc(Chapter::PubSub, since, PER_CHANNEL, summary)
}

const fn publishing(name: Text, keys: Keys, verb: Verb, since: Text, summary: Text) -> Command {
    let complexity = "O(N) where N is the number of clients that listen.";
    let row = Command::session(name, 3, verb).doc(Chapter::PubSub, since, complexity, summary);
    Command { flags: FLAGS.union(Flags::FAST), keys, ..row }
}

const fn asking(name: Text, arity: i32, verb: Verb, since: Text, summary: Text) -> Command {
    Command::session(name, arity, verb).with(Flags::PUBSUB).doc(Chapter::PubSub, since, PER_CHANNEL, summary)
}
