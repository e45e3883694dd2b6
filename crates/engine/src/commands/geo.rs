//! Places: sorted sets whose scores are geohashes ([`crate::geohash`]). `geo_search` finds them.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, Outcome, ReadContext, WriteContext};
use crate::commands::zset::{self, AddOptions};
use crate::error::CommandError;
use crate::geohash::Place;
use crate::reply::Reply;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("geoadd", -5, Keys::ONE, geoadd).with(Flags::DENYOOM).doc(
        Chapter::Geo,
        "3.2.0",
        "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        "Adds one or more members to a geospatial index. The key is created if it doesn't exist.",
    ),
    Command::read("geodist", -4, Keys::ONE, geodist).doc(
        Chapter::Geo,
        "3.2.0",
        "O(log(N))",
        "Returns the distance between two members of a geospatial index.",
    ),
    Command::read("geohash", -2, Keys::ONE, geohash).doc(
        Chapter::Geo,
        "3.2.0",
        "O(log(N)) for each member requested, where N is the number of elements in the sorted set.",
        "Returns members from a geospatial index as geohash strings.",
    ),
    Command::read("geopos", -2, Keys::ONE, geopos).doc(
        Chapter::Geo,
        "3.2.0",
        "O(N) where N is the number of members requested.",
        "Returns the longitude and latitude of members from a geospatial index.",
    ),
];

fn geoadd(context: &mut WriteContext, args: Args) -> Outcome {
    let mut options = AddOptions::default();
    let mut first = 2;
    while first < args.len() {
        let option = match () {
            () if args.is(first, "nx") => &mut options.absent,
            () if args.is(first, "xx") => &mut options.present,
            () if args.is(first, "ch") => &mut options.count_changed,
            () => break,
        };
        *option = true;
        first += 1;
    }
    let triples = args.len() - first;
    if triples == 0 || !triples.is_multiple_of(3) || options.present && options.absent {
        return Err(CommandError::Syntax);
    }
    let element = |at: usize| Ok((place(args, at)?.encode() as f64, args.bytes(at + 2).clone()));
    let elements: Result<Vec<(f64, Bytes)>, CommandError> =
        (first..args.len()).step_by(3).map(element).collect();
    zset::add(context, args.bytes(1), options, &elements?)
}

/// Words `at` and `at + 1` as longitude and latitude.
pub(super) fn place(args: Args, at: usize) -> Result<Place, CommandError> {
    let place = Place { longitude: args.float(at)?, latitude: args.float(at + 1)? };
    if !place.is_valid() {
        return Err(CommandError::Message(format!(
            "ERR invalid longitude,latitude pair {:.6},{:.6}",
            place.longitude, place.latitude
        )));
    }
    Ok(place)
}

/// How many metres the unit of word `at` is.
pub(super) fn unit_m(args: Args, at: usize) -> Result<f64, CommandError> {
    match () {
        () if args.is(at, "m") => Ok(1.0),
        () if args.is(at, "km") => Ok(1000.0),
        () if args.is(at, "ft") => Ok(0.3048),
        () if args.is(at, "mi") => Ok(1609.34),
        () => Err(CommandError::Text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// A distance as replies have it: four decimals.
pub(super) fn distance_reply(distance: f64) -> Reply {
    let parts = libm::rint(distance * 10_000.0) as u64;
    Reply::bulk(format!("{}.{:04}", parts / 10_000, parts % 10_000))
}

/// A place as replies have it.
pub(super) fn place_reply(place: Place) -> Reply {
    Reply::Array(vec![Reply::Decimal(place.longitude), Reply::Decimal(place.latitude)])
}

fn geodist(context: &mut ReadContext, args: Args) -> Outcome {
    let unit_m = match args.len() {
        4 => 1.0,
        5 => unit_m(args, 4)?,
        _ => return Err(CommandError::Syntax),
    };
    let Some(index) = context.keys.zset(args.bytes(1))? else { return Ok(Reply::Null) };
    let places = index.score(args.bytes(2)).zip(index.score(args.bytes(3)));
    let distance = |(a, b)| Place::decode(a).distance_m(Place::decode(b)) / unit_m;
    Ok(places.map_or(Reply::Null, |places| distance_reply(distance(places))))
}

fn geohash(context: &mut ReadContext, args: Args) -> Outcome {
    each_place(context, args, Reply::Null, |place| Reply::bulk(place.to_standard()))
}

fn geopos(context: &mut ReadContext, args: Args) -> Outcome {
    each_place(context, args, Reply::NullArray, place_reply)
}

/// What `show` makes of each member's place; `absent` for those that are not there.
fn each_place(context: &ReadContext, args: Args, absent: Reply, show: fn(Place) -> Reply) -> Outcome {
    let index = context.keys.zset(args.bytes(1))?;
    let reply = |member: &Bytes| {
        let score = index.and_then(|index| index.score(member));
        score.map_or_else(|| absent.clone(), |score| show(Place::decode(score)))
    };
    Ok(Reply::Array(args.from(2).iter().map(reply).collect()))
}
