use crate::seed::Random;

/// Messages whose length and content follow from their number, so that a receiver can check each of
/// them without having been told.
#[derive(Debug)]
pub struct Payloads {
    table: Vec<u8>,
    seed: u64,
    longest: u64,
}

impl Payloads {
    /// Messages of 0 to `longest` bytes: most of them short, some of any length.
    pub fn new(seed: u64, longest: usize) -> Self {
        let mut random = Random::new(seed);
        let words = (longest + (64 << 10)) / 8;
        let table = (0..words)
            .flat_map(|_| random.next().to_ne_bytes())
            .collect();
        Self {
            table,
            seed,
            longest: longest as u64,
        }
    }

    /// The message with this number.
    pub fn get(&self, number: u64) -> &[u8] {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let most = match random.below(100) {
            0..10 => 0,
            10..80 => self.longest.min(1 << 10),
            80..95 => self.longest.min(48 << 10),
            _ => self.longest,
        };
        let len = usize::try_from(random.below(most + 1)).unwrap();
        let start = random.below((self.table.len() - len) as u64);
        &self.table[usize::try_from(start).unwrap()..][..len]
    }

    /// Fails unless `found` is the message with this number.
    #[track_caller]
    pub fn check(&self, number: u64, found: &[u8]) {
        let expected = self.get(number);
        if expected != found {
            let at = (number.saturating_sub(50)..number + 50).find(|n| self.get(*n) == found);
            panic!(
                "message {number} has {} bytes instead of {}; it is number {at:?}",
                found.len(),
                expected.len()
            );
        }
    }
}
