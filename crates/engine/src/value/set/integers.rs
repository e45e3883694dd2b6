//! A set of integers: sorted, in a single allocation, each as wide as the widest has ever needed to be.

/// Bytes to an integer, in the form of [`i64::to_le_bytes`] cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    #[default]
    Two = 2,
    Four = 4,
    Eight = 8,
}

impl Width {
    fn of(n: i64) -> Width {
        match n {
            _ if i16::try_from(n).is_ok() => Width::Two,
            _ if i32::try_from(n).is_ok() => Width::Four,
            _ => Width::Eight,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Integers {
    bytes: Vec<u8>,
    width: Width,
}

impl Integers {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.width as usize
    }

    /// What its members need (which is less than it takes once the widest are gone): a function of them alone.
    pub(super) fn bytes(&self) -> usize {
        match self.len().checked_sub(1) {
            None => 0,
            Some(last) => {
                let width = Width::of(self.at(0)).max(Width::of(self.at(last)));
                self.len() * width as usize
            }
        }
    }

    pub(super) fn contains(&self, n: i64) -> bool {
        self.place(n).is_ok()
    }

    /// The integer at `position`, which is below `len`.
    pub(super) fn at(&self, position: usize) -> i64 {
        let width = self.width as usize;
        decode(&self.bytes[position * width..][..width])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        self.bytes.chunks_exact(self.width as usize).map(decode)
    }

    /// Whether `n` is new.
    pub(super) fn add(&mut self, n: i64) -> bool {
        let Err(position) = self.place(n) else { return false };
        if Width::of(n) > self.width {
            self.widen(Width::of(n));
        }
        let width = self.width as usize;
        // Almost exact growth: memory counts more here than the copy of a few hundred bytes.
        if self.bytes.capacity() == self.bytes.len() {
            self.bytes.reserve_exact(width * (1 + self.len() / 16));
        }
        let at = position * width;
        self.bytes.splice(at..at, n.to_le_bytes().into_iter().take(width));
        true
    }

    /// Whether `n` was there.
    pub(super) fn remove(&mut self, n: i64) -> bool {
        let Ok(position) = self.place(n) else { return false };
        let width = self.width as usize;
        self.bytes.drain(position * width..(position + 1) * width);
        true
    }

    /// The position of `n`, or else the one it would be inserted at.
    fn place(&self, n: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.at(middle).cmp(&n) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn widen(&mut self, width: Width) {
        let wide = |n: i64| n.to_le_bytes().into_iter().take(width as usize);
        let mut bytes = Vec::with_capacity((self.len() + 1) * width as usize);
        bytes.extend(self.iter().flat_map(wide));
        *self = Integers { bytes, width };
    }
}

fn decode(bytes: &[u8]) -> i64 {
    match bytes.try_into() {
        Ok(eight) => i64::from_le_bytes(eight),
        Err(_) => match bytes.try_into() {
            Ok(four) => i64::from(i32::from_le_bytes(four)),
            Err(_) => i64::from(i16::from_le_bytes(bytes.try_into().expect("of a width"))),
        },
    }
}
