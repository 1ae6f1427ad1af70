//! Exact chances of drawing machines without replacement.

/// Logarithms of factorials, so that chances of many machines do not overflow.
#[derive(Clone, Debug)]
pub struct Chances {
    ln_factorial: Vec<f64>,
}

impl Chances {
    /// For up to `machines` machines.
    pub fn new(machines: u32) -> Chances {
        let mut ln_factorial = vec![0.0; machines as usize + 1];
        for n in 1..ln_factorial.len() {
            ln_factorial[n] = ln_factorial[n - 1] + (n as f64).ln();
        }
        Chances { ln_factorial }
    }

    fn ln_choose(&self, n: u32, k: u32) -> f64 {
        let at = |n: u32| self.ln_factorial[n as usize];
        at(n) - at(k) - at(n - k)
    }

    /// The probability that exactly `hit` of `drawn` machines, drawn uniformly from `total`, are among `marked` of them
    /// (hypergeometric): C(marked, hit) C(total - marked, drawn - hit) / C(total, drawn).
    ///
    /// # Examples
    /// ```
    /// let chances = dunlin_spot::chance::Chances::new(10);
    /// assert!((chances.hit(4, 2, 1, 1) - 0.5).abs() < 1e-12); // one of four is drawn: half of the time it is one of the two
    /// assert_eq!(chances.hit(4, 2, 1, 2), 0.0);
    /// ```
    pub fn hit(&self, total: u32, marked: u32, drawn: u32, hit: u32) -> f64 {
        if hit > marked || hit > drawn || drawn > total || marked > total || drawn - hit > total - marked {
            return 0.0;
        }
        let ln = self.ln_choose(marked, hit) + self.ln_choose(total - marked, drawn - hit)
            - self.ln_choose(total, drawn);
        ln.exp()
    }

    /// The probability that, of `stages` stages of `size` machines each, one loses `parts[0]`, another `parts[1]` and so on, and the others
    /// nothing, whichever these are, when as many machines are drawn uniformly from all of them:
    /// stages! / (product of m_j! over j = 0, 1, ...) x product of C(size, part) / C(all, drawn), m_j the stages that lose j.
    ///
    /// # Examples
    /// ```
    /// let chances = dunlin_spot::chance::Chances::new(10);
    /// assert!((chances.falls(2, 2, &[1, 1]) - 2.0 / 3.0).abs() < 1e-12); // two of four, in different pairs
    /// ```
    pub fn falls(&self, size: u32, stages: u32, parts: &[u32]) -> f64 {
        let drawn: u32 = parts.iter().sum();
        if parts.len() > stages as usize || parts.iter().any(|&part| part > size) {
            return 0.0;
        }
        let same = |j: u32| parts.iter().filter(|&&part| part == j).count();
        let zero = stages as usize - parts.iter().filter(|&&part| part > 0).count();
        let ways = (1..=drawn).map(|j| self.ln_factorial[same(j)]).sum::<f64>() + self.ln_factorial[zero];
        let within: f64 = parts.iter().map(|&part| self.ln_choose(size, part)).sum();
        (self.ln_factorial[stages as usize] - ways + within - self.ln_choose(size * stages, drawn)).exp()
    }

    /// The probability that no stage loses more than its allowance when `drawn` machines are drawn uniformly from a pool of
    /// `total`. `stages` has (machines of the stage in the pool, most it may lose); the others of the pool may be lost freely.
    ///
    /// Stages are taken one after another; given what the earlier ones lost, the next one's loss is hypergeometric.
    pub fn all_within(&self, total: u32, drawn: u32, stages: impl Iterator<Item = (u32, u32)>) -> f64 {
        let mut left = total; // machines of the pool not looked at yet
        let mut by_used = vec![0.0; drawn as usize + 1]; // probability that so many victims were among those looked at
        by_used[0] = 1.0;
        for (size, most) in stages {
            let mut next = vec![0.0; drawn as usize + 1];
            for (used, &probability) in by_used.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                let open = drawn - used as u32;
                for lost in 0..=most.min(size).min(open) {
                    next[used + lost as usize] += probability * self.hit(left, size, open, lost);
                }
            }
            by_used = next;
            left -= size;
        }
        by_used.iter().sum()
    }
}
