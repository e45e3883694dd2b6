//! `bit`: Lua BitOp's operations on 32-bit integers (bitop.luajit.org, semantics).

use mlua::{Lua, Table};

use super::maths::number;
use super::{add, one};

type Unary = fn(i32) -> i32;
type Fold = fn(i32, i32) -> i32;
type Shift = fn(i32, u32) -> i32;

/// The library.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let bit = lua.create_table()?;
    let unary: [(&str, Unary); 3] = [("tobit", |a| a), ("bnot", |a| !a), ("bswap", |a| a.swap_bytes())];
    for (name, function) in unary {
        add(lua, &bit, name, move |lua, args| one(lua, function(to_bits(number(args, 0, name)?))))?;
    }
    let folds: [(&str, Fold); 3] = [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, fold) in folds {
        add(lua, &bit, name, move |lua, args| {
            let mut result = to_bits(number(args, 0, name)?);
            for i in 1..args.len() {
                result = fold(result, to_bits(number(args, i, name)?));
            }
            one(lua, result)
        })?;
    }
    let shifts: [(&str, Shift); 5] = [
        ("lshift", |a, n| a << n),
        ("rshift", |a, n| (a as u32 >> n) as i32),
        ("arshift", |a, n| a >> n),
        ("rol", |a, n| a.rotate_left(n)),
        ("ror", |a, n| a.rotate_right(n)),
    ];
    for (name, shift) in shifts {
        add(lua, &bit, name, move |lua, args| {
            let places = to_bits(number(args, 1, name)?) as u32 & 31;
            one(lua, shift(to_bits(number(args, 0, name)?), places))
        })?;
    }
    add(lua, &bit, "tohex", |lua, args| {
        let value = to_bits(number(args, 0, "tohex")?);
        let digits = if args.len() > 1 { to_bits(number(args, 1, "tohex")?) } else { 8 };
        let count = digits.unsigned_abs().min(8) as usize;
        let hex = if digits < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
        one(lua, &hex[8 - count..])
    })?;
    Ok(bit)
}

/// The low 32 bits of a number rounded to the nearest integer.
fn to_bits(number: f64) -> i32 {
    // The magic constant of Lua BitOp: the sum's low mantissa bits are the integer, in two's complement.
    (number + 6_755_399_441_055_744.0).to_bits() as u32 as i32
}
