//! Places: which are within a distance of another, or in a box around it.

use bytes::Bytes;

use crate::args::Args;
use crate::command::{Chapter, Command, Flags, Keys, MoreKeys, Outcome, ReadContext, WriteContext};
use crate::commands::geo::{distance_reply, place, place_reply, unit_m};
use crate::commands::zset::store;
use crate::error::CommandError;
use crate::geohash::{Area, Place, Shape};
use crate::reply::Reply;
use crate::value::zset::Element;
use crate::value::{Bounds, ZsetValue};

const RADIUS_COMPLEXITY: &str = "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.";
const SEARCH_COMPLEXITY: &str = "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape provided as the filter and M is the number of items inside the shape";

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::write("georadius", -6, RADIUS_KEYS, georadius).with(Flags::DENYOOM).doc(
        Chapter::Geo,
        "3.2.0",
        RADIUS_COMPLEXITY,
        "Queries a geospatial index for members within a distance from a coordinate, optionally stores the result.",
    ),
    Command::read("georadius_ro", -6, Keys::ONE, georadius_ro).doc(
        Chapter::Geo,
        "3.2.10",
        RADIUS_COMPLEXITY,
        "Returns members from a geospatial index that are within a distance from a coordinate.",
    ),
    Command::write("georadiusbymember", -5, RADIUS_KEYS, georadiusbymember).with(Flags::DENYOOM).doc(
        Chapter::Geo,
        "3.2.0",
        RADIUS_COMPLEXITY,
        "Queries a geospatial index for members within a distance from a member, optionally stores the result.",
    ),
    Command::read("georadiusbymember_ro", -5, Keys::ONE, georadiusbymember_ro).doc(
        Chapter::Geo,
        "3.2.10",
        RADIUS_COMPLEXITY,
        "Returns members from a geospatial index that are within a distance from a member.",
    ),
    Command::read("geosearch", -7, Keys::ONE, geosearch).doc(
        Chapter::Geo,
        "6.2.0",
        SEARCH_COMPLEXITY,
        "Queries a geospatial index for members inside an area of a box or a circle.",
    ),
    Command::write("geosearchstore", -8, Keys::TWO, geosearchstore).with(Flags::DENYOOM).doc(
        Chapter::Geo,
        "6.2.0",
        SEARCH_COMPLEXITY,
        "Queries a geospatial index for members inside an area of a box or a circle, optionally stores the result.",
    ),
];

/// The index, and the key that STORE or STOREDIST names.
const RADIUS_KEYS: Keys = Keys::ONE.and(MoreKeys::Found(stored_key));

/// The first word that can be an option of GEORADIUSBYMEMBER.
const FIRST_RADIUS_OPTION: usize = 5;

fn stored_key(words: &[Bytes]) -> Vec<usize> {
    let args = Args(words);
    let mut stored = None;
    let mut i = FIRST_RADIUS_OPTION;
    while i + 1 < words.len() {
        if args.is(i, "store") || args.is(i, "storedist") {
            i += 1;
            stored = Some(i);
        }
        i += 1;
    }
    stored.into_iter().collect()
}

/// Which command it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS, and whether it may store.
    Radius { may_store: bool },
    /// GEORADIUSBYMEMBER, and whether it may store.
    RadiusByMember { may_store: bool },
    /// GEOSEARCH.
    Search,
    /// GEOSEARCHSTORE.
    SearchStore,
}

impl Form {
    /// GEOSEARCH or GEOSEARCHSTORE, whose options say where to search.
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    /// Whether STORE and STOREDIST name a key.
    fn may_store(self) -> bool {
        matches!(self, Form::Radius { may_store: true } | Form::RadiusByMember { may_store: true })
    }
}

/// Around what.
#[derive(Clone, Copy)]
enum Centre {
    Place(Place),
    /// A member's place; `None` if there is no index.
    Member(Option<Place>),
}

#[derive(Clone, Copy)]
enum Order {
    Ascending,
    Descending,
}

/// A search as a call words it.
struct Query<'a> {
    form: Form,
    centre: Option<Centre>,
    /// In units of so many metres.
    shape: Option<(Shape, f64)>,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    order: Option<Order>,
    /// 0: no limit.
    count: usize,
    /// As many as `count` that come first will do, instead of the nearest.
    any: bool,
    store: Option<&'a Bytes>,
    /// Distances are stored, not places.
    store_distances: bool,
}

/// A member in the area.
struct Found<'a> {
    element: Element<'a>,
    place: Place,
    distance_m: f64,
}

impl<'a> Query<'a> {
    /// Looks members up while it reads the words, so that of several errors the one is told that Redis tells.
    fn parse(args: Args<'a>, index: Option<&ZsetValue>, form: Form) -> Result<Query<'a>, CommandError> {
        let mut query = Query {
            form,
            centre: None,
            shape: None,
            with_distance: false,
            with_hash: false,
            with_place: false,
            order: None,
            count: 0,
            any: false,
            store: None,
            store_distances: false,
        };
        let mut i = match form {
            Form::Radius { .. } => {
                query.centre = Some(Centre::Place(place(args, 2)?));
                query.shape = Some(circle(args, 4)?);
                6
            }
            Form::RadiusByMember { .. } => {
                query.centre = Some(member(index, args.bytes(2))?);
                if index.is_some() {
                    query.shape = Some(circle(args, 3)?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                query.store = Some(args.bytes(1));
                3
            }
        };
        while i < args.len() {
            i += match query.parse_option(args, i)? {
                0 if form.is_search() => query.parse_area(args, i, index)?,
                0 => return Err(CommandError::Syntax),
                words => words,
            };
        }
        query.check(args)?;
        Ok(query)
    }

    /// Reads the option at word `i`. How many words it has; 0 if it is none of these.
    fn parse_option(&mut self, args: Args<'a>, i: usize) -> Result<usize, CommandError> {
        let has_value = i + 1 < args.len();
        let may_store = has_value && self.form.may_store();
        match () {
            () if args.is(i, "withdist") => self.with_distance = true,
            () if args.is(i, "withhash") => self.with_hash = true,
            () if args.is(i, "withcoord") => self.with_place = true,
            () if args.is(i, "any") => self.any = true,
            () if args.is(i, "asc") => self.order = Some(Order::Ascending),
            () if args.is(i, "desc") => self.order = Some(Order::Descending),
            () if args.is(i, "count") && has_value => {
                let count = args.int(i + 1)?;
                if count <= 0 {
                    return Err(CommandError::Text("ERR COUNT must be > 0"));
                }
                self.count = usize::try_from(count).unwrap_or(usize::MAX);
                return Ok(2);
            }
            () if may_store && (args.is(i, "store") || args.is(i, "storedist")) => {
                self.store_distances = args.is(i, "storedist");
                self.store = Some(args.bytes(i + 1));
                return Ok(2);
            }
            () if self.form == Form::SearchStore && args.is(i, "storedist") => self.store_distances = true,
            () => return Ok(0),
        }
        Ok(1)
    }

    /// Reads what says where to search. How many words it has.
    fn parse_area(&mut self, args: Args, i: usize, index: Option<&ZsetValue>) -> Result<usize, CommandError> {
        let more = args.len() - i - 1;
        let at_place = matches!(self.centre, Some(Centre::Place(_)));
        let at_member = matches!(self.centre, Some(Centre::Member(_)));
        let is_box = matches!(self.shape, Some((Shape::Box { .. }, _)));
        let is_circle = matches!(self.shape, Some((Shape::Circle { .. }, _)));
        if args.is(i, "frommember") && more >= 1 && !at_place {
            self.centre = Some(member(index, args.bytes(i + 1))?);
            Ok(2)
        } else if args.is(i, "fromlonlat") && more >= 2 && !at_member {
            self.centre = Some(Centre::Place(place(args, i + 1)?));
            Ok(3)
        } else if args.is(i, "byradius") && more >= 2 && !is_box {
            self.shape = Some(circle(args, i + 1)?);
            Ok(3)
        } else if args.is(i, "bybox") && more >= 3 && !is_circle {
            self.shape = Some(rectangle(args, i + 1)?);
            Ok(4)
        } else {
            Err(CommandError::Syntax)
        }
    }

    /// Whether the options go together.
    fn check(&self, args: Args) -> Result<(), CommandError> {
        let exactly_one = |of: &str| {
            let name = String::from_utf8_lossy(args.bytes(0));
            CommandError::Message(format!("ERR exactly one of {of} can be specified for {name}"))
        };
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            return Err(CommandError::Text(match self.form {
                Form::SearchStore => {
                    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                }
                _ => {
                    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                }
            }));
        }
        if self.form.is_search() && self.centre.is_none() {
            return Err(exactly_one("FROMMEMBER or FROMLONLAT"));
        }
        if self.form.is_search() && self.shape.is_none() {
            return Err(exactly_one("BYRADIUS and BYBOX"));
        }
        if self.any && self.count == 0 {
            return Err(CommandError::Text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn unit_m(&self) -> f64 {
        self.shape.map_or(1.0, |(_, unit_m)| unit_m)
    }

    /// The members of `index` that it asks for, in order.
    fn run<'z>(&self, index: Option<&'z ZsetValue>) -> Vec<Found<'z>> {
        let centre = match self.centre {
            Some(Centre::Place(place) | Centre::Member(Some(place))) => place,
            Some(Centre::Member(None)) | None => return Vec::new(),
        };
        let (Some(index), Some((shape, unit_m))) = (index, self.shape) else { return Vec::new() };
        let limit = if self.count == 0 { usize::MAX } else { self.count };
        let mut found =
            find(index, Area { centre, shape, unit_m }, if self.any { limit } else { usize::MAX });
        // The nearest are meant by a count, unless any will do.
        let order = self.order.or((self.count != 0 && !self.any).then_some(Order::Ascending));
        match order {
            Some(Order::Ascending) => found.sort_by(|a, b| a.distance_m.total_cmp(&b.distance_m)),
            Some(Order::Descending) => found.sort_by(|a, b| b.distance_m.total_cmp(&a.distance_m)),
            None => {}
        }
        found.truncate(limit);
        found
    }

    fn reply(&self, found: Vec<Found>) -> Reply {
        let bare = !(self.with_distance || self.with_hash || self.with_place);
        let show = |found: &Found| {
            let member = Reply::bulk(found.element.member);
            if bare {
                return member;
            }
            let distance = self.with_distance.then(|| distance_reply(found.distance_m / self.unit_m()));
            let hash = self.with_hash.then_some(Reply::Int(found.element.score as i64));
            let place = self.with_place.then(|| place_reply(found.place));
            Reply::Array([Some(member), distance, hash, place].into_iter().flatten().collect())
        };
        Reply::Array(found.iter().map(show).collect())
    }

    /// What is to be stored of `found`.
    fn stored(&self, found: &[Found], bounds: &Bounds) -> ZsetValue {
        let score = |found: &Found| match self.store_distances {
            true => found.distance_m / self.unit_m(),
            false => found.element.score,
        };
        let elements = found.iter().map(|found| Element { score: score(found), ..found.element });
        ZsetValue::of(elements.collect(), bounds)
    }
}

/// The first members of `index` in `area`, up to `limit`, cell by cell.
fn find(index: &ZsetValue, area: Area, limit: usize) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    for (from, to) in area.score_ranges() {
        let start = index.count_while(|element| element.score < from as f64);
        let within = index.range(start..index.len()).take_while(|element| element.score < to as f64);
        for element in within {
            let place = Place::decode(element.score);
            if let Some(distance_m) = area.distance_m(place) {
                found.push(Found { element, place, distance_m });
                if found.len() >= limit {
                    return found;
                }
            }
        }
    }
    found
}

fn member(index: Option<&ZsetValue>, member: &[u8]) -> Result<Centre, CommandError> {
    let Some(index) = index else { return Ok(Centre::Member(None)) };
    let score = index.score(member);
    let score = score.ok_or(CommandError::Text("ERR could not decode requested zset member"))?;
    Ok(Centre::Member(Some(Place::decode(score))))
}

/// Words `at` and `at + 1` as a radius and its unit.
fn circle(args: Args, at: usize) -> Result<(Shape, f64), CommandError> {
    let radius = args.float(at).map_err(|_| CommandError::Text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(CommandError::Text("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, unit_m(args, at + 1)?))
}

/// Words `at` to `at + 2` as a width, a height and their unit.
fn rectangle(args: Args, at: usize) -> Result<(Shape, f64), CommandError> {
    let width = args.float(at).map_err(|_| CommandError::Text("ERR need numeric width"))?;
    let height = args.float(at + 1).map_err(|_| CommandError::Text("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::Text("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, unit_m(args, at + 2)?))
}

fn georadius(context: &mut WriteContext, args: Args) -> Outcome {
    write(context, args, 1, Form::Radius { may_store: true })
}

fn georadius_ro(context: &mut ReadContext, args: Args) -> Outcome {
    read(context, args, Form::Radius { may_store: false })
}

fn georadiusbymember(context: &mut WriteContext, args: Args) -> Outcome {
    write(context, args, 1, Form::RadiusByMember { may_store: true })
}

fn georadiusbymember_ro(context: &mut ReadContext, args: Args) -> Outcome {
    read(context, args, Form::RadiusByMember { may_store: false })
}

fn geosearch(context: &mut ReadContext, args: Args) -> Outcome {
    read(context, args, Form::Search)
}

fn geosearchstore(context: &mut WriteContext, args: Args) -> Outcome {
    write(context, args, 2, Form::SearchStore)
}

fn read(context: &ReadContext, args: Args, form: Form) -> Outcome {
    let index = context.keys.zset(args.bytes(1))?;
    let query = Query::parse(args, index, form)?;
    Ok(query.reply(query.run(index)))
}

/// Word `at` is the index's key.
fn write(context: &mut WriteContext, args: Args, at: usize, form: Form) -> Outcome {
    let index = context.keys.zset(args.bytes(at))?;
    let query = Query::parse(args, index, form)?;
    let found = query.run(index);
    let Some(key) = query.store else { return Ok(query.reply(found)) };
    let stored = query.stored(&found, context.keys.bounds());
    let event = if form.is_search() { "geosearchstore" } else { "georadiusstore" };
    store(context, key, stored, event)
}
