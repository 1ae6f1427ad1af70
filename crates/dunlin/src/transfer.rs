//! In how many bits updates travel (`--transfer`).
//!
//! An update that is rounded to 16 bits loses something. What it loses, the *carry*, is kept by the lane and added to
//! its next update of the same number ([`crate::update::Carry`]), so that in the long run nothing is lost: at any time
//! the sum of what was sent plus the carry is the sum of the updates.
//!
//! ```text
//! f32   1 sign  8 exponent  23 fraction      as it is
//! bf16  1 sign  8 exponent   7 fraction      the range of f32, 2 to 3 digits
//! f16   1 sign  5 exponent  10 fraction      up to 65504, 3 to 4 digits; steps of 6e-8 near zero
//! ```
//! Numbers are rounded to the nearest, ties to even. One beyond the largest is sent as the largest, and the rest waits
//! in the carry; one below half the smallest is sent as zero and waits whole. Infinities and NaN are sent as they are,
//! with nothing carried, so that a run which diverges is found out as ever.

use crate::table::{TableSpec, Type};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// How the numbers of a table's updates travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As they are.
    #[default]
    F32,
    /// The upper half of an f32.
    Bf16,
    /// IEEE 754 binary16.
    F16,
}

impl Format {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::F16 => "f16",
        }
    }

    fn parse(word: &str) -> Option<Format> {
        [Format::F32, Format::Bf16, Format::F16].into_iter().find(|format| format.word() == word)
    }

    /// `value` as it arrives. Never −0.
    ///
    /// # Examples
    /// ```
    /// use dunlin::transfer::Format;
    /// assert_eq!(Format::Bf16.round(1.003), 1.0);
    /// assert_eq!(Format::F16.round(1e6), 65504.0, "the rest is carried");
    /// ```
    pub fn round(self, value: f32) -> f32 {
        match self {
            Format::F32 => value,
            Format::Bf16 => Bf16::round(value),
            Format::F16 => F16::round(value),
        }
    }
}

/// Sixteen bits that stand for a float.
pub(crate) trait Sixteen {
    /// The largest number.
    const LARGEST: f32;
    /// The nearest bits for a number that is at most the largest, an infinity or NaN.
    fn nearest(value: f32) -> u16;
    /// What the bits stand for.
    fn widen(bits: u16) -> f32;

    /// The bits for any number: beyond the largest they are those of the largest.
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        let clamped = value.clamp(-Self::LARGEST, Self::LARGEST);
        Self::nearest(if value.is_finite() { clamped } else { value })
    }

    /// As [`Format::round`].
    #[inline(always)]
    fn round(value: f32) -> f32 {
        Self::widen(Self::narrow(value)) + 0.0
    }

    /// Adds each carry to its update and rounds that; what is lost becomes the carry.
    #[inline(always)]
    fn round_all(updates: &mut [f32], carries: &mut [f32]) {
        for (update, carry) in updates.iter_mut().zip(carries) {
            let whole = *update + *carry;
            *update = Self::round(whole);
            let rest = whole - *update;
            *carry = if rest.is_finite() { rest } else { 0.0 };
        }
    }
}

/// bfloat16.
pub(crate) struct Bf16;

impl Sixteen for Bf16 {
    const LARGEST: f32 = f32::from_bits(0x7f7f_0000);

    #[inline(always)]
    fn nearest(value: f32) -> u16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        if value.is_nan() { 0x7fc0 } else { rounded as u16 }
    }

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }
}

/// binary16.
pub(crate) struct F16;

impl Sixteen for F16 {
    const LARGEST: f32 = 65504.0;

    #[inline(always)]
    fn nearest(value: f32) -> u16 {
        let (sign, size) = (value.to_bits() >> 16 & 0x8000, value.to_bits() & 0x7fff_ffff);
        let normal = size.wrapping_add(0xfff + (size >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
        // Below 2^-14 steps are 2^-24, as those of an f32 from 0.5 on: the sum is rounded where it has to be.
        let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let finite = if size < 113 << 23 { small } else { normal };
        let rounded = if size < 0x7f80_0000 { finite } else { 0x7c00 } | sign;
        if value.is_nan() { 0x7e00 } else { rounded as u16 }
    }

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        let (sign, size) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
        let scaled = f32::from_bits(size) * f32::from_bits((127 + 112) << 23); // exact, below 2^-14 too
        let size = if size >= 0x7c00 << 13 { size | 0x7f80_0000 } else { scaled.to_bits() };
        f32::from_bits(size | sign)
    }
}

/// How updates travel, as a user says it: `bf16`, or `bf16,totals=f32` for single tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Transfer {
    /// For tables that have no format of their own.
    pub format: Format,
    /// Of single tables, by name.
    pub tables: BTreeMap<String, Format>,
}

impl Transfer {
    /// True if nothing is rounded.
    pub fn is_exact(&self) -> bool {
        self.format == Format::F32 && self.tables.values().all(|format| *format == Format::F32)
    }

    /// The format of `table`. Integers and f64 always travel as they are: counts must be exact, and a model takes f64
    /// where 32 bits are too few.
    pub fn of(&self, table: &TableSpec) -> Format {
        match table.element {
            Type::F32 => self.tables.get(&table.name).copied().unwrap_or(self.format),
            Type::F64 | Type::I32 => Format::F32,
        }
    }

    /// # Errors
    /// [`Error::Usage`] if a table is named that `model` does not have or that is not rounded, or if no table would be.
    pub fn check(&self, model: &str, tables: &[TableSpec]) -> Result<()> {
        let wrong = |what: String| Err(Error::Usage(format!("--transfer {self}: {what}")));
        let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
        for (name, format) in &self.tables {
            let Some(table) = tables.iter().find(|table| table.name == *name) else {
                let near = crate::model::near_name(name, &names);
                let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return wrong(format!("{model} has no table {name}{near} (it has {})", names.join(", ")));
            };
            if self.of(table) != *format {
                return wrong(format!("table {name} of {model} {}", exact(table.element)));
            }
        }
        let shared = || tables.iter().filter(|table| table.axis != crate::Axis::Example);
        if !self.is_exact() && shared().all(|table| self.of(table) == Format::F32) {
            let reason = shared().next().map_or("is not shared", |table| exact(table.element));
            return wrong(format!(
                "there is nothing to round: {model} shares no table of f32; each {reason}"
            ));
        }
        Ok(())
    }
}

/// Why a table of such elements is not rounded.
fn exact(element: Type) -> &'static str {
    match element {
        Type::I32 => "holds counts, which travel exactly (in one or two bytes where they fit)",
        Type::F64 => "holds f64, which travel exactly: 32 bits are too few for it",
        Type::F32 => "holds f32",
    }
}

impl Display for Transfer {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.format.word())?;
        self.tables.iter().try_for_each(|(table, format)| write!(f, ",{table}={}", format.word()))
    }
}

impl FromStr for Transfer {
    type Err = Error;

    /// `FORMAT`, `FORMAT,TABLE=FORMAT,...`.
    fn from_str(text: &str) -> Result<Transfer> {
        let format = |word: &str| {
            Format::parse(word).ok_or_else(|| {
                Error::Usage(format!(
                    "--transfer {text}: \"{word}\"; there is f32, bf16 and f16, and single tables as in bf16,totals=f32"
                ))
            })
        };
        let mut transfer = Transfer::default();
        for (place, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some((table, word)) => drop(transfer.tables.insert(table.into(), format(word)?)),
                None if place == 0 => transfer.format = format(part)?,
                None => {
                    return Err(Error::Usage(format!("--transfer {text}: \"{part}\" after another format")));
                }
            }
        }
        Ok(transfer)
    }
}

impl TryFrom<String> for Transfer {
    type Error = Error;
    fn try_from(text: String) -> Result<Transfer> {
        text.parse()
    }
}

impl From<Transfer> for String {
    fn from(transfer: Transfer) -> String {
        transfer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    /// All finite numbers of a format, ascending.
    fn all<S: Sixteen>() -> Vec<f32> {
        let mut all: Vec<f32> = (0..=u16::MAX).map(S::widen).filter(|value| value.is_finite()).collect();
        all.sort_by(f32::total_cmp);
        all
    }

    fn each_number_comes_back_and_others_go_to_the_nearest<S: Sixteen>() {
        for bits in 0..=u16::MAX {
            let value = S::widen(bits);
            let back = S::narrow(value);
            assert!(
                back == bits || value.is_nan() && S::widen(back).is_nan(),
                "{bits:#x}: {value}, {back:#x}"
            );
        }
        let all = all::<S>();
        let mut rng = stream(7, "transfer-test", &[]);
        for _ in 0..100_000 {
            let value = f32::from_bits(rng.next() as u32);
            if !value.is_finite() || value.abs() > S::LARGEST {
                continue;
            }
            let above = all.partition_point(|number| *number < value).min(all.len() - 1);
            let [low, high] = [all[above.saturating_sub(1)], all[above]].map(f64::from);
            let (value, rounded) = (f64::from(value), f64::from(S::round(value)));
            let least = (value - low).abs().min((high - value).abs());
            assert_eq!((value - rounded).abs(), least, "{value} to {rounded}, between {low} and {high}");
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        each_number_comes_back_and_others_go_to_the_nearest::<Bf16>();
        each_number_comes_back_and_others_go_to_the_nearest::<F16>();
        // Ties go to even; half of 2^-24 is one, between 0 and 2^-24.
        assert_eq!(Format::Bf16.round(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(Format::Bf16.round(1.0 + 3.0 / 256.0), 1.0 + 1.0 / 64.0);
        assert_eq!(Format::F16.round(2f32.powi(-25)), 0.0);
        assert_eq!(Format::F16.round(3.0 * 2f32.powi(-25)), 2f32.powi(-23));
        assert!(Format::F16.round(-1e-9).is_sign_positive(), "no −0");
    }

    #[test]
    fn beyond_the_largest_the_rest_is_carried_and_what_is_no_number_stays_so() {
        for (format, largest) in [(Format::F16, F16::LARGEST), (Format::Bf16, Bf16::LARGEST)] {
            assert_eq!(format.round(f32::MAX), largest, "{format:?}");
            assert_eq!(format.round(f32::INFINITY), f32::INFINITY);
            assert_eq!(format.round(f32::NEG_INFINITY), f32::NEG_INFINITY);
            assert!(format.round(-f32::NAN).is_nan() && format.round(f32::from_bits(0x7f80_0001)).is_nan());
        }
        let (mut updates, mut carries) = ([2e5f32, f32::NAN, f32::INFINITY, 1e-9], [0.0f32, 0.5, 0.5, 0.0]);
        F16::round_all(&mut updates, &mut carries);
        assert_eq!((updates[0], carries[0]), (65504.0, 2e5 - 65504.0));
        assert!(updates[1].is_nan() && updates[2] == f32::INFINITY && carries[1..3] == [0.0; 2]);
        assert_eq!((updates[3], carries[3]), (0.0, 1e-9), "too small to be sent: it waits");
        let mut sent = f64::from(updates[0]);
        for _ in 0..3 {
            updates = [0.0; 4];
            F16::round_all(&mut updates, &mut carries);
            sent += f64::from(updates[0]);
        }
        assert_eq!(sent + f64::from(carries[0]), 2e5, "all of it has arrived, but for what is still carried");
        assert!(carries[0].abs() < 32.0);
    }

    #[test]
    fn words_come_back_or_are_refused_with_what_is_allowed() {
        for text in ["f32", "bf16", "f16", "bf16,totals=f32", "f32,items=f16"] {
            assert_eq!(text.parse::<Transfer>().unwrap().to_string(), text);
        }
        for text in ["", "f8", "bf16,f16", "bf16,items=", "bf16,", "BF16"] {
            let message = text.parse::<Transfer>().unwrap_err().to_string();
            assert!(message.contains("--transfer"), "{text}: {message}");
        }
        assert!("f64".parse::<Transfer>().unwrap_err().to_string().contains("there is f32, bf16 and f16"));
    }

    #[test]
    fn tables_that_are_not_rounded_are_named() {
        let tables = [TableSpec::new("items", 4, 2), TableSpec::new("counts", 4, 1).element(Type::I32)];
        let refused = |text: &str, tables: &[TableSpec]| {
            text.parse::<Transfer>().unwrap().check("a-model", tables).unwrap_err().to_string()
        };
        assert!("bf16".parse::<Transfer>().unwrap().check("a-model", &tables).is_ok());
        assert!(
            refused("bf16,counts=f16", &tables)
                .contains("counts of a-model holds counts, which travel exactly")
        );
        assert!(refused("bf16,itemz=f16", &tables).contains("did you mean items?"));
        assert!(refused("bf16", &tables[1..]).contains("there is nothing to round"));
        assert!(refused("bf16,items=f32", &tables).contains("there is nothing to round"));
        assert!("f32".parse::<Transfer>().unwrap().check("a-model", &tables[1..]).is_ok());
    }
}
