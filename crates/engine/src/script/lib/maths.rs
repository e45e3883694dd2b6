//! `math`, by libm and the entry's seed: the platform's maths may differ in the last digit from one machine to the next.

use bytes::{BufMut, BytesMut};
use mlua::{Lua, MultiValue, Table, Value};

use super::{Given, add, one};
use crate::rng::Rng;
use crate::script::api;
use crate::script::convert::number_of;

type Unary = fn(f64) -> f64;

/// What replaces the functions of Lua's own `math`.
pub fn math(lua: &Lua) -> mlua::Result<Table> {
    let math = lua.create_table()?;
    let unary: [(&str, Unary); 11] = [
        ("acos", libm::acos),
        ("asin", libm::asin),
        ("atan", libm::atan),
        ("cos", libm::cos),
        ("cosh", libm::cosh),
        ("exp", libm::exp),
        ("log", libm::log),
        ("log10", libm::log10),
        ("sin", libm::sin),
        ("sinh", libm::sinh),
        ("tan", libm::tan),
    ];
    for (name, function) in unary {
        add(lua, &math, name, move |lua, args| one(lua, function(number(args, 0, name)?)))?;
    }
    add(lua, &math, "tanh", |lua, args| one(lua, libm::tanh(number(args, 0, "tanh")?)))?;
    add(lua, &math, "atan2", |lua, args| {
        one(lua, libm::atan2(number(args, 0, "atan2")?, number(args, 1, "atan2")?))
    })?;
    add(lua, &math, "pow", |lua, args| {
        one(lua, libm::pow(number(args, 0, "pow")?, number(args, 1, "pow")?))
    })?;
    add(lua, &math, "random", random)?;
    add(lua, &math, "randomseed", |lua, args| {
        let seed = number(args, 0, "randomseed")?;
        api::with(lua, |host| host.random = Rng::for_call(seed.to_bits(), 0));
        Ok(MultiValue::new())
    })?;
    Ok(math)
}

/// Argument `i` (from 0), a number or a string that is one.
pub(super) fn number(args: &MultiValue, i: usize, function: &str) -> Result<f64, String> {
    let bad = |got: &str| format!("bad argument #{} to '{function}' (number expected, got {got})", i + 1);
    match args.get(i) {
        Some(value @ (Value::Integer(_) | Value::Number(_))) => Ok(number_of(value)),
        Some(Value::String(text)) => text.to_string_lossy().trim().parse().map_err(|_| bad("string")),
        Some(value) => Err(bad(value.type_name())),
        None => Err(bad("no value")),
    }
}

fn random(lua: &Lua, args: &MultiValue) -> Given {
    let drawn = api::with(lua, |host| host.random.next_u64());
    let fraction = (drawn >> 11) as f64 / (1u64 << 53) as f64;
    let (low, high) = match args.len() {
        0 => return one(lua, fraction),
        1 => (1.0, number(args, 0, "random")?.floor()),
        2 => (number(args, 0, "random")?.floor(), number(args, 1, "random")?.floor()),
        _ => return Err("wrong number of arguments".to_string()),
    };
    if low > high {
        return Err(format!("bad argument #{} to 'random' (interval is empty)", args.len()));
    }
    one(lua, (fraction * (high - low + 1.0)).floor() + low)
}

/// Appends a number as redis.call sends it: an integer by its digits, others by C's `%.17g`.
pub fn put_word(value: f64, out: &mut BytesMut) {
    // Beyond that, `as` would cut it.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    let cut = value as i64;
    if !(-BEYOND..BEYOND).contains(&value) || (cut as f64).to_bits() != value.to_bits() {
        out.extend_from_slice(format_general(value, 17).as_bytes());
        return;
    }
    // As many as the largest has.
    let mut digits = [0; 19];
    let (mut at, mut left) = (digits.len(), cut.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if cut < 0 {
        out.put_u8(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// C's `%.<digits>g`.
pub fn format_general(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return match value {
            value if value.is_nan() => "nan".to_string(),
            value if value > 0.0 => "inf".to_string(),
            _ => "-inf".to_string(),
        };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_string();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs());
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_string()
}

/// Without the zeros that end a fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_words_by_their_digits() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (7.0, "7"),
            (-10.0, "-10"),
            (1e17, "100000000000000000"),
            (9_223_372_036_854_774_784.0, "9223372036854774784"),
            (9_223_372_036_854_775_808.0, "9.2233720368547758e+18"),
            (-9_223_372_036_854_775_808.0, "-9223372036854775808"),
            (0.5, "0.5"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, word) in cases {
            let mut out = BytesMut::from("before ");
            put_word(number, &mut out);
            assert_eq!(out, format!("before {word}"));
        }
    }

    #[test]
    fn numbers_are_written_as_c_writes_them() {
        let cases = [
            (0.1, 17, "0.10000000000000001"),
            (9_007_199_254_740_991.0, 17, "9007199254740991"),
            (100.5, 17, "100.5"),
            (1e17, 17, "1e+17"),
            (1e20, 14, "1e+20"),
            (-0.0001, 14, "-0.0001"),
            (0.00001, 14, "1e-05"),
            (1023.2, 14, "1023.2"),
            (123_456_789_012_345_680.0, 17, "1.2345678901234568e+17"),
        ];
        for (value, digits, text) in cases {
            assert_eq!(format_general(value, digits), text);
        }
    }
}
