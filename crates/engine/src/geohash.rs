//! Places on Earth as 52-bit numbers, and areas as ranges of them: what the geo commands compute with.
//!
//! A geohash halves the ranges of longitude and latitude in turn and keeps a bit of each step, so that a prefix names
//! a cell and numbers that are near each other are places near each other. Redis's numbers differ from the standard's
//! (<http://geohash.org>) in the range of latitudes, that of the web's Mercator maps. Distances are on a sphere.
//!
//! All results are state or replies: only IEEE 754 arithmetic and `libm`, never the platform's functions.

use std::f64::consts::PI;

/// The longitudes that have a geohash, in degrees: from minus to plus this.
pub const MAX_LONGITUDE: f64 = 180.0;

/// The latitudes that have a geohash, in degrees: from minus to plus this (EPSG:3857).
pub const MAX_LATITUDE: f64 = 85.051_128_78;

/// Halvings of each range in a place's geohash: 52 bits, which a double holds exactly.
const MAX_STEPS: u32 = 26;

/// The Earth's quadratic mean radius.
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// Half the length of the equator on the web's Mercator maps.
const MERCATOR_MAX_M: f64 = 20_037_726.37;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East is positive.
    pub longitude: f64,
    /// North is positive.
    pub latitude: f64,
}

/// A cell of the grid that `steps` halvings of each range make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// Latitude's bits at the even places, longitude's at the odd ones.
    bits: u64,
    steps: u32,
}

/// What a cell covers, in degrees.
struct Extent {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// An area to search, around a centre.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Its middle.
    pub centre: Place,
    /// Its form.
    pub shape: Shape,
    /// How many metres the unit of `shape` is.
    pub unit_m: f64,
}

/// An area's form, in its unit.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A circle.
    Circle {
        /// Its radius.
        radius: f64,
    },
    /// A box along the axes.
    Box {
        /// From west to east.
        width: f64,
        /// From south to north.
        height: f64,
    },
}

impl Place {
    /// Whether it has a geohash.
    pub fn is_valid(self) -> bool {
        self.longitude.abs() <= MAX_LONGITUDE && self.latitude.abs() <= MAX_LATITUDE
    }

    /// Its 52-bit geohash, for a valid place.
    pub fn encode(self) -> u64 {
        Cell::of(self, MAX_STEPS, MAX_LATITUDE).bits
    }

    /// The middle of the cell whose geohash is `score`, a sorted set's. Any number names some place.
    pub fn decode(score: f64) -> Place {
        // By way of a signed number, as Redis's machines do it, so that what is below zero lies in the far north-east.
        let extent = Cell { bits: score as i64 as u64, steps: MAX_STEPS }.extent();
        let middle = |a: f64, b: f64, max: f64| ((a + b) / 2.0).min(max).max(-max);
        Place {
            longitude: middle(extent.west, extent.east, MAX_LONGITUDE),
            latitude: middle(extent.south, extent.north, MAX_LATITUDE),
        }
    }

    /// The standard's geohash, 11 characters. 52 bits make ten and a bit; the last is always `0`, as in Redis.
    pub fn to_standard(self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        const STANDARD_MAX_LATITUDE: f64 = 90.0;
        let bits = Cell::of(self, MAX_STEPS, STANDARD_MAX_LATITUDE).bits;
        let digit = |i: u32| char::from(ALPHABET[(bits >> (52 - 5 * (i + 1)) & 31) as usize]);
        (0..10).map(digit).chain(['0']).collect()
    }

    /// The distance to `other` along a great circle, in metres (haversine formula).
    pub fn distance_m(self, other: Place) -> f64 {
        let v = libm::sin((radians(other.longitude) - radians(self.longitude)) / 2.0);
        if v == 0.0 {
            return self.latitude_distance_m(other);
        }
        let (here, there) = (radians(self.latitude), radians(other.latitude));
        let u = libm::sin((there - here) / 2.0);
        let a = u * u + libm::cos(here) * libm::cos(there) * v * v;
        2.0 * EARTH_RADIUS_M * libm::asin(libm::sqrt(a))
    }

    fn latitude_distance_m(self, other: Place) -> f64 {
        EARTH_RADIUS_M * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

impl Cell {
    fn of(place: Place, steps: u32, max_latitude: f64) -> Cell {
        let offset = |value: f64, max: f64| (value + max) / (max + max) * (1u64 << steps) as f64;
        let latitude = offset(place.latitude, max_latitude) as u32;
        let longitude = offset(place.longitude, MAX_LONGITUDE) as u32;
        Cell { bits: spread(latitude) | spread(longitude) << 1, steps }
    }

    fn extent(self) -> Extent {
        let (latitude, longitude) = (gather(self.bits), gather(self.bits >> 1));
        let cells = (1u64 << self.steps) as f64;
        let edge = |n: f64, max: f64| -max + (n / cells) * (max + max);
        // The next number wraps around, as Redis's does.
        let next = |n: u32| f64::from(n.wrapping_add(1));
        Extent {
            west: edge(f64::from(longitude), MAX_LONGITUDE),
            east: edge(next(longitude), MAX_LONGITUDE),
            south: edge(f64::from(latitude), MAX_LATITUDE),
            north: edge(next(latitude), MAX_LATITUDE),
        }
    }

    /// The cell so many to the east and to the north, around the Earth (and over the poles, wrongly).
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let mask = ((1u64 << self.steps) - 1) as u32;
        let moved = |n: u32, by: i32| if by == 0 { n } else { n.wrapping_add_signed(by) & mask };
        let latitude = moved(gather(self.bits), north);
        let longitude = moved(gather(self.bits >> 1), east);
        Cell { bits: spread(latitude) | spread(longitude) << 1, steps: self.steps }
    }

    /// The 52-bit geohashes of the places in it: from the first number to below the second.
    fn scores(self) -> (u64, u64) {
        let shift = 2 * (MAX_STEPS - self.steps);
        (self.bits << shift, (self.bits + 1) << shift)
    }
}

/// `n`'s bits at the even places of the result.
/// From <https://graphics.stanford.edu/~seander/bithacks.html#InterleaveBMN>.
fn spread(n: u32) -> u64 {
    let n = u64::from(n);
    let n = (n | n << 16) & 0x0000_FFFF_0000_FFFF;
    let n = (n | n << 8) & 0x00FF_00FF_00FF_00FF;
    let n = (n | n << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    let n = (n | n << 2) & 0x3333_3333_3333_3333;
    (n | n << 1) & 0x5555_5555_5555_5555
}

/// The bits at the even places of `n`.
fn gather(n: u64) -> u32 {
    let n = n & 0x5555_5555_5555_5555;
    let n = (n | n >> 1) & 0x3333_3333_3333_3333;
    let n = (n | n >> 2) & 0x0F0F_0F0F_0F0F_0F0F;
    let n = (n | n >> 4) & 0x00FF_00FF_00FF_00FF;
    let n = (n | n >> 8) & 0x0000_FFFF_0000_FFFF;
    (n | n >> 16) as u32
}

impl Area {
    /// The distance of `place` from the centre, in metres, if it is in the area.
    pub fn distance_m(&self, place: Place) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius } => {
                let distance_m = self.centre.distance_m(place);
                (distance_m <= radius * self.unit_m).then_some(distance_m)
            }
            Shape::Box { width, height } => {
                // How far east is measured at the place's own latitude.
                let abeam = Place { longitude: self.centre.longitude, latitude: place.latitude };
                let inside = place.latitude_distance_m(self.centre) <= height * self.unit_m / 2.0
                    && place.distance_m(abeam) <= width * self.unit_m / 2.0;
                inside.then(|| self.centre.distance_m(place))
            }
        }
    }

    /// Ranges of geohashes (from the first number to below the second) in which every place of the area is: those of
    /// the centre's cell and of the cells around it that the area may reach.
    pub fn score_ranges(&self) -> Vec<(u64, u64)> {
        let bounds = self.bounds();
        let mut cell = Cell::of(self.centre, self.steps(), MAX_LATITUDE);
        if cell.steps > 1 && !cell.surroundings_cover(&bounds) {
            cell = Cell::of(self.centre, cell.steps - 1, MAX_LATITUDE);
        }
        let extent = cell.extent();
        let is_needed = |east: i32, north: i32| {
            cell.steps < 2
                || !(north < 0 && extent.south < bounds.south
                    || north > 0 && extent.north > bounds.north
                    || east < 0 && extent.west < bounds.west
                    || east > 0 && extent.east > bounds.east)
        };
        /// The cell itself, then north, south, east, west and the corners: the order in which Redis answers.
        const OFFSETS: [(i32, i32); 9] =
            [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let needed = OFFSETS.into_iter().filter(|(east, north)| is_needed(*east, *north));
        let mut cells: Vec<Cell> = needed.map(|(east, north)| cell.neighbour(east, north)).collect();
        // Where cells are so large that a step in either direction arrives at the same one.
        cells.dedup();
        cells.into_iter().map(Cell::scores).collect()
    }

    /// The box around the area, in degrees.
    fn bounds(&self) -> Extent {
        let Place { longitude, latitude } = self.centre;
        let (width_m, height_m) = match self.shape {
            Shape::Circle { radius } => (self.unit_m * radius, self.unit_m * radius),
            Shape::Box { width, height } => (self.unit_m * (width / 2.0), self.unit_m * (height / 2.0)),
        };
        let north = degrees(height_m / EARTH_RADIUS_M);
        // Degrees of longitude are shortest where the area is nearest to a pole.
        let nearest_pole = if latitude < 0.0 { latitude - north } else { latitude + north };
        let east = degrees(width_m / EARTH_RADIUS_M / libm::cos(radians(nearest_pole)));
        Extent {
            west: longitude - east,
            east: longitude + east,
            south: latitude - north,
            north: latitude + north,
        }
    }

    /// How many halvings make cells that, with those around them, are about large enough.
    fn steps(&self) -> u32 {
        let mut range_m = self.unit_m
            * match self.shape {
                Shape::Circle { radius } => radius,
                Shape::Box { width, height } => {
                    libm::sqrt((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0))
                }
            };
        if range_m == 0.0 {
            return MAX_STEPS;
        }
        let mut steps = 1;
        while range_m < MERCATOR_MAX_M {
            range_m *= 2.0;
            steps += 1;
        }
        // Two fewer include the range in most cases; cells become narrow towards the poles.
        steps -= 2;
        let latitude = self.centre.latitude.abs();
        steps -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        steps.clamp(1, MAX_STEPS as i32) as u32
    }
}

impl Cell {
    /// Whether the cells around this one reach to `bounds` in every direction.
    fn surroundings_cover(self, bounds: &Extent) -> bool {
        self.neighbour(0, 1).extent().north >= bounds.north
            && self.neighbour(0, -1).extent().south <= bounds.south
            && self.neighbour(1, 0).extent().east >= bounds.east
            && self.neighbour(-1, 0).extent().west <= bounds.west
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        let coordinates = (-MAX_LONGITUDE..MAX_LONGITUDE, -MAX_LATITUDE..MAX_LATITUDE);
        coordinates.prop_map(|(longitude, latitude)| Place { longitude, latitude })
    }

    #[test]
    fn places_are_encoded_as_redis_does() {
        let palermo = Place { longitude: 13.361389, latitude: 38.115556 };
        let catania = Place { longitude: 15.087269, latitude: 37.502669 };
        assert_eq!((palermo.encode(), catania.encode()), (3_479_099_956_230_698, 3_479_447_370_796_909));
        assert_eq!(Place::decode(palermo.encode() as f64).to_standard(), "sqc8b49rny0");
        let distance_m =
            Place::decode(palermo.encode() as f64).distance_m(Place::decode(catania.encode() as f64));
        assert!((distance_m - 166_274.151_6).abs() < 0.0001);
    }

    proptest! {
        #[test]
        fn decoding_comes_near(place in place()) {
            let again = Place::decode(place.encode() as f64);
            prop_assert!(again.is_valid());
            prop_assert!((again.longitude - place.longitude).abs() < 0.000_01);
            prop_assert!((again.latitude - place.latitude).abs() < 0.000_01);
            prop_assert_eq!(again.encode(), place.encode());
        }

        #[test]
        fn bits_spread_and_gather(n: u32, m: u32) {
            prop_assert_eq!(gather(spread(n) | spread(m) << 1), n);
        }

        /// Up to latitude 70: beyond, Redis misses some places too, and the replies are to be Redis's.
        #[test]
        fn no_place_in_an_area_is_missed(
            centre in place(),
            bearing in 0.0..360.0f64,
            part in 0.0..1.0f64,
            radius in 1.0..2_000_000.0f64,
        ) {
            prop_assume!(centre.latitude.abs() < 50.0);
            let angle = part * radius / EARTH_RADIUS_M;
            let latitude = centre.latitude + degrees(angle) * libm::cos(radians(bearing));
            let longitude =
                centre.longitude + degrees(angle) * libm::sin(radians(bearing)) / libm::cos(radians(latitude));
            let place = Place { longitude, latitude };
            prop_assume!(place.is_valid() && latitude.abs() < 70.0);
            let circle = Area { centre, shape: Shape::Circle { radius }, unit_m: 1.0 };
            let square = Shape::Box { width: 2.0 * radius, height: 2.0 * radius };
            for area in [circle, Area { shape: square, ..circle }] {
                if area.distance_m(place).is_some() {
                    let score = place.encode();
                    prop_assert!(area.score_ranges().iter().any(|(from, to)| (*from..*to).contains(&score)));
                }
            }
        }
    }
}
