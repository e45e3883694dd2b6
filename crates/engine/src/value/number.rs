//! Numbers as text, both ways, exactly as Redis reads and writes them.

/// A 64-bit signed integer in its one canonical form: no spaces, no `+`, no leading zeros, not `-0`.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', rest @ ..] if rest.len() < 19 && rest.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    // At most 19 digits: cannot overflow u64.
    let magnitude = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// A floating point number that is not NaN; infinities are spelt `inf`, `+inf`, `-inf`, `infinity`. A number that is
/// too large or, though not zero, too small for the type is none.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some((digits, value)) = parse_hex_float(text) {
        let fits = value.is_finite() && (value != 0.0 || digits == 0);
        return fits.then_some(value);
    }
    let value: f64 = text.parse().ok()?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let fits = if value.is_infinite() {
        text.contains(['n', 'N'])
    } else {
        value != 0.0 || !mantissa.contains(|c: char| ('1'..='9').contains(&c))
    };
    (fits && !value.is_nan()).then_some(value)
}

/// A bound of a range of scores, as C's `strtod` reads it: [`parse_float`] and, besides, nothing at all is 0, spaces may
/// precede it, and what is too large is infinite.
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let text = std::str::from_utf8(text).ok()?.trim_ascii_start();
    let value = match parse_hex_float(text) {
        Some((_, value)) => value,
        None => text.parse().ok()?,
    };
    Some(value).filter(|value| !value.is_nan())
}

/// C's hexadecimal floating point numbers: `0x1.8p3`. The digits as a number (whether there are any that count), and
/// the value: infinite or zero if it is too large or too small.
fn parse_hex_float(text: &str) -> Option<(u64, f64)> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let hex = unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X"))?;
    let (mantissa, exponent) = match hex.split_once(['p', 'P']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?.clamp(-100_000, 100_000)),
        None => (hex, 0),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && decimals.is_empty() {
        return None;
    }
    let (mut digits, mut exponent) = (0u64, exponent as i32 - 4 * i32::try_from(decimals.len()).ok()?);
    for digit in whole.chars().chain(decimals.chars()) {
        let digit = u64::from(digit.to_digit(16)?);
        if digits >> 60 == 0 {
            digits = digits << 4 | digit;
        } else {
            // What no longer fits only matters for rounding: the lowest bit stands for it.
            digits |= u64::from(digit != 0);
            exponent = exponent.saturating_add(4);
        }
    }
    let magnitude = libm::scalbn(digits as f64, exponent);
    Some((digits, if text.starts_with('-') { -magnitude } else { magnitude }))
}

/// A floating point number as C's `%.17g` prints it: 17 significant digits without trailing zeros, which is what
/// Redis 7 replies. Infinities are `inf` and `-inf`.
pub fn format_double(value: f64) -> String {
    const DIGITS: i32 = 17;
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    if value.is_nan() {
        return "nan".to_string();
    }
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("`e` in scientific notation");
    let exponent: i32 = exponent.parse().expect("an integer after `e`");
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        return trim_decimals(&format!("{value:.decimals$}")).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim_decimals(mantissa), exponent.unsigned_abs())
}

/// A floating point number with its decimals written out: at most 17, without trailing zeros, no `-0`. What Redis calls
/// human.
pub fn format_decimal(value: f64) -> String {
    match trim_decimals(&format!("{value:.17}")) {
        "-0" => "0".to_string(),
        decimal => decimal.to_string(),
    }
}

/// `text` without the zeros that end its decimals, nor a decimal point that nothing follows.
pub fn trim_decimals(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_printed_as_c_does() {
        // The right side is what glibc's printf("%.17g") gives.
        for (value, printed) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (0.1, "0.10000000000000001"),
            (1.0 / 3.0, "0.33333333333333331"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            // A tie (1.00000762939453125): to the even digit.
            (1.0 + 1.0 / 131_072.0, "1.0000076293945312"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_double(value), printed);
        }
    }

    #[test]
    fn decimals_are_written_out() {
        // The right side is what Redis 7 replies to GEOPOS, or glibc's printf("%.17Lf") without its last zeros.
        for (value, printed) in [
            (13.361389338970184, "13.36138933897018433"),
            (-0.0, "0"),
            (3.0, "3"),
            (-0.5, "-0.5"),
            (1e-20, "0"),
            (-1e-20, "0"),
            (1e17, "100000000000000000"),
        ] {
            assert_eq!(format_decimal(value), printed);
        }
    }

    #[test]
    fn floats_are_read_as_redis_does() {
        for text in ["1", "-.5", "5.", "+1e3", "inf", "-INF", "+Infinity", "0e999", "-0", "5e-324"] {
            assert!(parse_float(text.as_bytes()).is_some(), "{text}");
        }
        for (text, value) in [
            ("0x10", 16.0),
            ("-0X1.8p1", -3.0),
            ("0x.1", 0.0625),
            ("0x0p9", 0.0),
            ("0xfffffffffffffbff8", 295_147_905_179_352_793_088.0),
            ("0xfffffffffffffc000", 295_147_905_179_352_825_856.0),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["0x", "0x.", "0xg", "0x1p", "0x1p5000", "0x1p-5000", "x1"] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
        for text in ["", " 1", "1 ", "nan", "1e", ".", "1e400", "-1e400", "1e-400", "1_0", "1\0"] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bounds_may_be_anything_that_strtod_takes() {
        for (text, value) in [
            ("", 0.0),
            (" 1.5", 1.5),
            ("1e400", f64::INFINITY),
            ("-1e400", f64::NEG_INFINITY),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_bound(text.as_bytes()), Some(value), "{text}");
        }
        for text in [" ", "1 ", "nan", "1e", "str"] {
            assert_eq!(parse_bound(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn integers_have_one_form() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_int(text.as_bytes()).map(|n| n.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        }
    }
}
