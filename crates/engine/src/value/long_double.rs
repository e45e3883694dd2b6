//! The 80-bit floating point numbers that Redis computes INCRBYFLOAT and HINCRBYFLOAT with on x86-64, in integer
//! arithmetic: the same digits on every platform, and the same as Redis's.
//!
//! The format is x87's double extended: a mantissa of 64 bits, exponents from -16445 to 16320 for the mantissa as an
//! integer, gradual underflow, rounding to nearest and ties to even. Reading follows C's `strtold` as Redis calls it,
//! writing its `%.17Lf` with trailing zeros removed. A zero's sign is not kept: Redis never prints it.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};

use crate::value::number::trim_decimals;

const MANTISSA_BITS: i64 = 64;
/// Of the last bit of a number too small to be normal.
const MIN_EXPONENT: i64 = -16445;
/// A finite number is below two to this power.
const MAX_BITS: i64 = 16384;
/// Redis's buffer for a number as text, less the byte that ends it.
const MAX_TEXT_BYTES: usize = 5 * 1024 - 1;
/// Exponents beyond this overflow or underflow whatever [`MAX_TEXT_BYTES`] of digits they belong to.
const EXPONENT_CLAMP: i64 = 200_000;
/// The decimals that Redis prints.
const DECIMALS: usize = 17;

/// A number in the 80-bit format; not NaN.
#[derive(Clone, Debug, PartialEq)]
pub enum LongDouble {
    /// `mantissa * 2^exponent`, rounded to the format.
    Finite {
        /// At most 64 bits, or 2^64, and a sign.
        mantissa: BigInt,
        /// The power of two.
        exponent: i64,
    },
    /// Either infinity.
    Infinite,
}

impl LongDouble {
    /// Reads decimal and hexadecimal numbers and infinities. `None` for anything else, NaN included, and for a number
    /// that is not zero but too large or too small for the format.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (sign, unsigned) = match text {
            [b'-', rest @ ..] => (Sign::Minus, rest),
            [b'+', rest @ ..] => (Sign::Plus, rest),
            _ => (Sign::Plus, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::Infinite);
        }
        match unsigned {
            [b'0', b'x' | b'X', digits @ ..] => {
                let scientific = Scientific::scan(digits, 16, b'p')?;
                // A hexadecimal digit is four binary ones.
                let exponent = scientific.exponent - 4 * scientific.decimals;
                nearest(sign, scientific.digits, BigUint::from(1u8), exponent)
            }
            _ => {
                let Scientific { digits, decimals, exponent } = Scientific::scan(unsigned, 10, b'e')?;
                // Keeps the power of ten small; either way the number is zero, too small or too large.
                let exponent = exponent.clamp(-EXPONENT_CLAMP / 10, EXPONENT_CLAMP / 10) - decimals;
                let power = BigUint::from(10u8).pow(exponent.unsigned_abs() as u32);
                let (numerator, denominator) =
                    if exponent < 0 { (digits, power) } else { (digits * power, BigUint::from(1u8)) };
                nearest(sign, numerator, denominator, 0)
            }
        }
    }

    /// The rounded sum; `None` if it is not finite.
    pub fn checked_add(&self, other: &LongDouble) -> Option<LongDouble> {
        let (
            LongDouble::Finite { mantissa: a, exponent: i },
            LongDouble::Finite { mantissa: b, exponent: j },
        ) = (self, other)
        else {
            return None;
        };
        let exponent = *i.min(j);
        let sum = (a << (i - exponent) as u64) + (b << (j - exponent) as u64);
        let (sign, magnitude) = sum.into_parts();
        // A sum's last bit is never below the format's, so that it does not underflow.
        nearest(sign, magnitude, BigUint::from(1u8), exponent)
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> LongDouble {
        LongDouble::Finite { mantissa: BigInt::from(value), exponent: 0 }
    }
}

/// As Redis stores and replies it: plain digits, at most 17 decimals, no trailing zeros, no `-0`.
impl std::fmt::Display for LongDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LongDouble::Finite { mantissa, exponent } = self else { return f.write_str("inf") };
        // In units of the last decimal printed, rounded.
        let scaled = mantissa.magnitude() * BigUint::from(10u8).pow(DECIMALS as u32);
        let scaled = if *exponent >= 0 {
            scaled << exponent.unsigned_abs()
        } else {
            round_div(scaled, BigUint::from(1u8) << exponent.unsigned_abs())
        };
        let digits = format!("{:0>width$}", scaled.to_string(), width = DECIMALS + 1);
        let (whole, decimals) = digits.split_at(digits.len() - DECIMALS);
        let text = format!("{whole}.{decimals}");
        let text = trim_decimals(&text);
        let minus = if mantissa.sign() == Sign::Minus && text != "0" { "-" } else { "" };
        write!(f, "{minus}{text}")
    }
}

/// The parts of a number as it was written: `digits` without its point, `decimals` of which stood after the point.
struct Scientific {
    digits: BigUint,
    decimals: i64,
    exponent: i64,
}

impl Scientific {
    /// Digits of `radix` with at most one point and, after the letter `mark`, a decimal exponent.
    fn scan(text: &[u8], radix: u32, mark: u8) -> Option<Scientific> {
        let is_mark = |b: &u8| b.eq_ignore_ascii_case(&mark);
        let (number, exponent) = match text.iter().position(is_mark) {
            Some(at) => (&text[..at], Self::scan_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let point = number.iter().position(|&b| b == b'.');
        let (whole, decimals) = match point {
            Some(at) => (&number[..at], &number[at + 1..]),
            None => (number, &[][..]),
        };
        let digits = [whole, decimals].concat();
        if digits.is_empty() || !digits.iter().all(|&b| char::from(b).is_digit(radix)) {
            return None;
        }
        Some(Scientific {
            digits: BigUint::parse_bytes(&digits, radix)?,
            decimals: decimals.len() as i64,
            exponent,
        })
    }

    /// An optional sign and at least one digit, clamped.
    fn scan_exponent(text: &[u8]) -> Option<i64> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let add = |n: i64, d: &u8| (n * 10 + i64::from(d - b'0')).min(EXPONENT_CLAMP);
        let magnitude = digits.iter().fold(0, add);
        Some(if negative { -magnitude } else { magnitude })
    }
}

/// The number of the format that is nearest to `numerator / denominator * 2^exponent`; `None` if that overflows, or if
/// it is zero though the numerator is not.
fn nearest(sign: Sign, numerator: BigUint, denominator: BigUint, exponent: i64) -> Option<LongDouble> {
    if numerator == BigUint::ZERO {
        return Some(LongDouble::from(0));
    }
    // The last bit's weight, as a power of two. The quotient has this many bits or one more, which the comparison of
    // leading parts decides.
    let quotient_bits = numerator.bits() as i64 - denominator.bits() as i64;
    let reaches = if quotient_bits >= 0 {
        numerator >= &denominator << quotient_bits as u64
    } else {
        &numerator << quotient_bits.unsigned_abs() >= denominator
    };
    let unit = quotient_bits + i64::from(reaches) - MANTISSA_BITS;
    let unit = unit.max(MIN_EXPONENT - exponent);
    let mantissa = if unit >= 0 {
        round_div(numerator, denominator << unit as u64)
    } else {
        round_div(numerator << unit.unsigned_abs(), denominator)
    };
    let exponent = exponent + unit;
    if mantissa == BigUint::ZERO || mantissa.bits() as i64 + exponent > MAX_BITS {
        return None;
    }
    Some(LongDouble::Finite { mantissa: BigInt::from_biguint(sign, mantissa), exponent })
}

/// The quotient, rounded to the nearest integer, a tie to the even one.
fn round_div(numerator: BigUint, denominator: BigUint) -> BigUint {
    let quotient = &numerator / &denominator;
    let twice_rest = (numerator - &quotient * &denominator) << 1u8;
    let up = match twice_rest.cmp(&denominator) {
        Ordering::Less => false,
        Ordering::Equal => quotient.bit(0),
        Ordering::Greater => true,
    };
    quotient + u8::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let parse = |text: &str| LongDouble::parse(text.as_bytes());
        Some(parse(a)?.checked_add(&parse(b)?)?.to_string())
    }

    #[test]
    fn sums_are_those_of_redis() {
        // Printed by redis-server 7.0 on x86-64.
        for (a, b, printed) in SUMS {
            assert_eq!(sum(a, b).as_deref(), Some(*printed), "{a} + {b}");
        }
    }

    const SUMS: &[(&str, &str, &str)] = &[
        ("0.1", "0.2", "0.3"),
        ("3.0", "1.1", "4.1"),
        ("5.0e3", "2.0e2", "5200"),
        ("-0.1", "-0.2", "-0.3"),
        ("1", "-1", "0"),
        ("-1e-20", "0", "0"),
        ("123456789.123456789", "987654321.987654321", "1111111111.11111110995989293"),
        ("9007199254740993.5", "-0.25", "9007199254740993.25"),
        ("1e18", "1e-2", "1000000000000000000"),
        // Ties of the mantissa, to the even one.
        ("18446744073709551615", "2", "18446744073709551616"),
        ("36893488147419103234", "3", "36893488147419103236"),
        ("73786976294838206468", "-4", "73786976294838206460"),
        ("73786976294838206472", "4", "73786976294838206480"),
        ("0x1.fffffffffffffffep0", "0x1p-65", "2"),
        ("340282366920938463463374607431768211456", "-1e20", "340282366920938463371140887063220453376"),
        // A tie of the last decimal, to the even one; its neighbour.
        ("0.000003814697265625", "0", "0.00000381469726562"),
        ("3.814697265625e-06", "1e-18", "0.00000381469726563"),
        ("0.000000000000000005", "0", "0"),
        ("0.000000000000000015", "0", "0.00000000000000002"),
    ];

    #[test]
    fn only_numbers_are_numbers() {
        for text in
            ["", " 1", "1 ", "nan", "1e", "1e+", ".", "0x", "--1", "1.2.3", "1e5000", "1e-5000", "abc", "e5"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        for text in ["0", ".5", "5.", "+1", "1E3", "0x1p4", "inf", "-Infinity", "0e999999999999", "1e-4950"] {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text}");
        }
        let longest = "1".repeat(4932);
        assert!(LongDouble::parse(longest.as_bytes()).is_some());
        assert_eq!(LongDouble::parse("1".repeat(MAX_TEXT_BYTES + 1).as_bytes()), None);
    }

    #[test]
    fn the_largest_numbers_do_not_add_up() {
        let largest = LongDouble::parse(b"0xffffffffffffffffp16320").expect("the largest number");
        assert_eq!(largest.checked_add(&largest), None);
        assert_eq!(largest.checked_add(&LongDouble::from(1)), Some(largest));
        assert_eq!(LongDouble::Infinite.checked_add(&LongDouble::from(1)), None);
    }
}
