//! A channel's variable difficulty: the target that makes a miner find shares at the wanted pace.
//!
//! What counts is the work that shares prove, not how many they are: it does not depend on the
//! target they were found at, so a change of target does not spoil the measurement. How many they
//! are only says how far the measurement is to be trusted.

use core::time::Duration;

use super::{Difficulty, Hashrate, Moment, Target};

/// How long after its opening, or after a new claim, a channel is in a hurry: until then nothing
/// is known but what the client says, and that may be off by orders of magnitude.
const HURRY: Duration = Duration::from_secs(120);
/// How often a channel in a hurry is looked at, and any other.
const CHECK_HURRIED: Duration = Duration::from_secs(5);
const CHECK_SETTLED: Duration = Duration::from_secs(60);
/// The surprise (see [`Evidence::surprise`]) that it takes to move: 2.4 and 3.5 standard
/// deviations. In a hurry, three shares that were expected and did not come are just enough.
const SURPRISE_HURRIED: f64 = 6.0;
const SURPRISE_SETTLED: f64 = 12.0;
/// Deviations below this ratio, however well measured, are not worth a message.
const BAND: f64 = 1.2;
/// At least this many shares since the last look, and twice what is wanted, are reason to look at
/// once.
const FLOOD: f64 = 20.0;
/// No span is taken for shorter than this: a burst says little about pace.
const SHORTEST_SPAN: Duration = Duration::from_secs(1);
/// Once the long-term tally is this old, half of it is forgotten.
const MEMORY: Duration = Duration::from_secs(30 * 60);
/// A settled channel becomes at most this much easier at a time: what goes missing for a minute
/// is often on its way.
const SLOWDOWN: f64 = 4.0;
/// How much easier a channel becomes by silence alone once it is known to work: its miner will be
/// back, and shall not drown us then.
const SILENCE: f64 = 64.0;
/// Where shares are rarer than they are wanted, so many tell something before one was to be expected.
const TELLING: f64 = 4.0;
/// No miner is this fast.
const FASTEST: Hashrate = Hashrate(1e21);

/// What an operator may choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The wanted pace.
    pub shares_per_minute: f64,
    /// The slowest miner that is catered for, whatever a client claims: it gets the easiest
    /// target.
    pub slowest: Hashrate,
}

impl Default for Options {
    /// 12 shares a minute, from 10 kH/s on.
    fn default() -> Options {
        Options { shares_per_minute: 12.0, slowest: Hashrate(1e4) }
    }
}

/// One channel's difficulty.
///
/// *In a hurry* for two minutes, then *settled*. In a hurry it moves on the little evidence there is
/// and then starts afresh; settled, it looks at the last minute for what is new, and at up to an
/// hour for the fine adjustment.
///
/// Drive it so: [`on_share`](Self::on_share) for every credited share, [`poll`](Self::poll) once
/// [`next_check`](Self::next_check) has come.
#[derive(Debug, Clone)]
pub struct Vardiff {
    options: Options,
    /// What the client said last.
    nominal: Hashrate,
    /// The easiest target that the client takes.
    max_target: Target,
    /// The easiest target that the operator gives.
    easiest: Target,
    /// The hashrate for which the target is chosen.
    estimate: Hashrate,
    target: Target,
    /// When the claim was made that it started with.
    opened_at: Moment,
    checked_at: Moment,
    /// Settled, since the last check; in a hurry, since the last change.
    recent: Tally,
    /// Settled, what came before `recent` and still counts.
    past: Tally,
    /// How much work `recent` holds when it is a flood.
    flood: f64,
    /// The estimate when the last share had come, if any has.
    proven: Option<Hashrate>,
}

impl Vardiff {
    /// For a channel that is being opened (§5.3.2, §5.3.4) with these claims.
    pub fn new(now: Moment, nominal: Hashrate, max_target: Target, options: Options) -> Vardiff {
        let mut vardiff = Vardiff {
            options,
            nominal,
            max_target,
            easiest: Target::MAX,
            estimate: nominal,
            target: max_target,
            opened_at: now,
            checked_at: now,
            recent: Tally::new(now),
            past: Tally::new(now),
            flood: 0.0,
            proven: None,
        };
        vardiff.start(now, nominal);
        vardiff
    }

    /// The target that shares must meet now (§5.3.21): never easier than the client's max_target.
    pub fn target(&self) -> Target {
        self.target
    }

    /// How fast the miner is thought to be.
    pub fn estimate(&self) -> Hashrate {
        self.estimate
    }

    /// Notes a share, with the difficulty of the target that it had to meet: the one its job went
    /// out with.
    pub fn on_share(&mut self, credited: Difficulty) {
        self.recent.add(credited.hashes());
    }

    /// When to poll next: in the past, if there is a flood to stop.
    pub fn next_check(&self) -> Moment {
        let is_flooded = self.recent.work >= self.flood;
        if is_flooded { self.checked_at } else { self.checked_at + self.interval() }
    }

    /// From now on no target is easier than this, however slow the miner. That changes what shares
    /// weigh, not what is known of the miner.
    pub fn set_easiest(&mut self, easiest: Target) {
        if self.easiest != easiest {
            self.easiest = easiest;
            self.assume(self.estimate.0);
            self.await_flood();
        }
    }

    /// From now on it aims at these. That changes what shares weigh, not what is known of the miner.
    pub fn set_options(&mut self, options: Options) {
        if self.options != options {
            self.options = options;
            self.assume(self.estimate.0);
            self.await_flood();
        }
    }

    /// Looks at the evidence, if it is time to. Returns the new target if it is to change: from
    /// then on it is the one in force, and must be announced with SetTarget.
    pub fn poll(&mut self, now: Moment) -> Option<Target> {
        if now < self.next_check() {
            return None;
        }
        let before = self.target;
        self.checked_at = now;
        let hurried = self.is_hurried();
        let news = self.evidence(&self.recent, now);
        if self.is_held_back() && news.expected < 1.0 && news.shares < TELLING {
            // looking every minute for what comes once in hours, one would see a miracle each time
            self.await_flood();
            return None;
        }
        if news.calls_for_change(if hurried { SURPRISE_HURRIED } else { SURPRISE_SETTLED }) {
            self.assume(self.believable(&news));
            self.recent = Tally::new(now);
            self.past = Tally::new(now);
        } else if !hurried {
            self.past.absorb(&self.recent, now);
            self.recent = Tally::new(now);
            let all = self.evidence(&self.past, now);
            if !all.is_silence() && all.calls_for_change(SURPRISE_SETTLED) {
                self.assume(self.estimate.0 * all.ratio());
            }
        }
        if !news.is_silence() {
            self.proven = Some(self.estimate);
        }
        self.await_flood();
        (self.target != before).then_some(self.target)
    }

    /// Takes the client's new claims (§5.3.7). Returns the new target if it is to change at once.
    ///
    /// A claim that is the old one, or that agrees with what was measured, is no news.
    pub fn update(&mut self, now: Moment, nominal: Hashrate, max_target: Target) -> Option<Target> {
        let before = self.target;
        self.max_target = max_target;
        if nominal != self.nominal && is_worth_a_change(nominal.0 / self.estimate.0) {
            self.start(now, nominal);
        } else {
            self.assume(self.estimate.0);
            self.await_flood();
        }
        self.nominal = nominal;
        (self.target != before).then_some(self.target)
    }

    fn start(&mut self, now: Moment, nominal: Hashrate) {
        self.opened_at = now;
        self.checked_at = now;
        self.recent = Tally::new(now);
        self.past = Tally::new(now);
        self.proven = None;
        self.assume(nominal.0);
        self.await_flood();
    }

    /// Chooses the target by a hashrate (hashes per second), or by the nearest one in reason.
    fn assume(&mut self, estimate: f64) {
        self.estimate = Hashrate(estimate.max(self.options.slowest.0).min(FASTEST.0));
        self.target = self.wanted().min(self.max_target).min(self.easiest);
    }

    /// The target at which shares would come at the wanted pace.
    fn wanted(&self) -> Target {
        Target::for_hashrate(self.estimate, self.options.shares_per_minute)
    }

    /// Shares come less often than they are wanted, as the target must not be any easier.
    fn is_held_back(&self) -> bool {
        self.target < self.wanted()
    }

    /// What `news` say the hashrate is, as far as they are believed.
    fn believable(&self, news: &Evidence) -> f64 {
        let found = self.estimate.0 * news.ratio();
        let Some(proven) = self.proven else { return found };
        let slowed = if self.is_hurried() { 0.0 } else { self.estimate.0 / SLOWDOWN };
        let asleep = if news.is_silence() { proven.0 / SILENCE } else { 0.0 };
        found.max(slowed).max(asleep)
    }

    fn is_hurried(&self) -> bool {
        self.checked_at.since(self.opened_at) < HURRY
    }

    fn interval(&self) -> Duration {
        if self.is_hurried() { CHECK_HURRIED } else { CHECK_SETTLED }
    }

    fn await_flood(&mut self) {
        let wanted = self.options.shares_per_minute / 60.0 * self.interval().as_secs_f64();
        self.flood = self.recent.work + FLOOD.max(2.0 * wanted) * self.target.hashes_per_share();
    }

    fn evidence(&self, tally: &Tally, now: Moment) -> Evidence {
        let span = now.since(tally.since).max(SHORTEST_SPAN).as_secs_f64();
        // Shares lighter than the target in force are stragglers: they count for what they weigh.
        // Heavier ones are few, and tell no more than so few can.
        let unit = tally.mean_weight().max(self.target.hashes_per_share());
        Evidence { shares: tally.work / unit, expected: self.estimate.0 * span / unit }
    }
}

/// The work that shares have proved over a span of time.
#[derive(Debug, Clone)]
struct Tally {
    since: Moment,
    /// In hashes.
    work: f64,
    /// The sum of each share's work squared.
    squares: f64,
}

impl Tally {
    fn new(since: Moment) -> Tally {
        Tally { since, work: 0.0, squares: 0.0 }
    }

    fn add(&mut self, work: f64) {
        self.work += work;
        self.squares += work * work;
    }

    /// The work of a share, in the mean over all work: heavy shares decide.
    fn mean_weight(&self) -> f64 {
        if self.work > 0.0 { self.squares / self.work } else { 0.0 }
    }

    /// Takes in the tally that follows this one, up to `now`, and forgets some of what is old.
    fn absorb(&mut self, next: &Tally, now: Moment) {
        self.work += next.work;
        self.squares += next.squares;
        let span = now.since(self.since);
        if span > MEMORY {
            self.work /= 2.0;
            self.squares /= 2.0;
            self.since = self.since + span / 2;
        }
    }
}

/// What was found, against what the estimate let expect; both in shares of one weight.
#[derive(Debug)]
struct Evidence {
    shares: f64,
    expected: f64,
}

impl Evidence {
    fn is_silence(&self) -> bool {
        self.shares < 1.0
    }

    /// By what the estimate should be multiplied. For a silent miner that is a guess, and rather
    /// too little: an easy target soon tells how fast it is, a hard one does not.
    fn ratio(&self) -> f64 {
        self.shares.max(0.1) / self.expected
    }

    /// How badly a Poisson distribution with the expected mean fits: the logarithm of a likelihood
    /// ratio, doubled, which is distributed like the square of a standard normal variable.
    fn surprise(&self) -> f64 {
        let log = if self.shares > 0.0 { (self.shares / self.expected).ln() } else { 0.0 };
        2.0 * (self.shares * log - self.shares + self.expected)
    }

    fn calls_for_change(&self, surprise: f64) -> bool {
        is_worth_a_change(self.ratio()) && self.surprise() > surprise
    }
}

fn is_worth_a_change(ratio: f64) -> bool {
    !(1.0 / BAND..=BAND).contains(&ratio)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const WANTED: f64 = 12.0; // shares a minute, by default

    #[test]
    fn one_heavy_share_is_no_flood_without_end() {
        let options = Options { slowest: hashrate(0.0), ..Options::default() };
        // far harder than such a miner wants it
        let held_back = Target::for_hashrate(hashrate(1e6), WANTED);
        let mut vardiff = Vardiff::new(Moment(0), hashrate(1.0), held_back, options);
        // for a job of when it was harder still
        vardiff.on_share(Target::for_hashrate(hashrate(1e9), WANTED).difficulty());
        let now = vardiff.next_check();
        assert_eq!(vardiff.poll(now), None);
        assert!(vardiff.next_check() > now, "it would be looked at again at once, and again");
    }

    /// A miner that finds shares as chance has it, and its channel.
    struct Simulation {
        rng: StdRng,
        now: f64,
        hashrate: f64,
        /// How long after SetTarget the miner works on it, in seconds.
        lag: f64,
        vardiff: Vardiff,
        /// The target that the miner works on, and those on their way to it.
        working_on: Target,
        announced: VecDeque<(f64, Target)>,
        retargets: u32,
        shares: u32,
    }

    impl Simulation {
        fn new(seed: u64, claimed: f64, real: f64) -> Simulation {
            let vardiff = Vardiff::new(Moment(0), hashrate(claimed), Target::MAX, Options::default());
            Simulation {
                rng: StdRng::seed_from_u64(seed),
                now: 0.0,
                hashrate: real,
                lag: 0.2,
                working_on: vardiff.target(),
                vardiff,
                announced: VecDeque::new(),
                retargets: 0,
                shares: 0,
            }
        }

        fn moment(&self) -> Moment {
            Moment((self.now * 1e6) as u64)
        }

        fn run(&mut self, seconds: f64) {
            let end = self.now + seconds;
            while self.now < end {
                let chance: f64 = 1.0 - self.rng.random::<f64>();
                let share = self.now - chance.ln() * self.working_on.hashes_per_share() / self.hashrate;
                let check = (self.vardiff.next_check().0 as f64 / 1e6).max(self.now);
                let arrival = self.announced.front().map_or(f64::INFINITY, |(at, _)| *at);
                // Waiting has no memory: what is not due first can be drawn anew.
                let next = share.min(check).min(arrival).min(end);
                self.now = next;
                if next == arrival {
                    self.working_on = self.announced.pop_front().unwrap().1;
                } else if next == share {
                    self.shares += 1;
                    self.vardiff.on_share(self.working_on.difficulty());
                } else if let Some(target) = self.vardiff.poll(self.moment()) {
                    self.retargets += 1;
                    self.announced.push_back((self.now + self.lag, target));
                }
                self.now += 1e-6;
            }
        }

        /// Shares a minute, at the target in force.
        fn pace(&self) -> f64 {
            self.hashrate * MINUTE / self.vardiff.target().hashes_per_share()
        }
    }

    fn hashrate(hashrate: f64) -> Hashrate {
        Hashrate::new(hashrate as f32).unwrap()
    }

    /// How many of 100 channels have a pace within a factor of `within` of what is wanted.
    fn on_pace(within: f64, run: impl Fn(u64) -> Simulation) -> usize {
        let paces = (0..100).map(|seed| run(seed).pace());
        paces.filter(|pace| (WANTED / within..WANTED * within).contains(pace)).count()
    }

    #[test]
    fn a_wrong_claim_is_corrected_in_two_minutes() {
        for (claim, at_least) in
            [(1e-6, 95), (1e-4, 95), (1e-2, 95), (0.1, 95), (1.0, 95), (10.0, 85), (1e2, 75), (1e4, 80)]
        {
            let run = |seconds| {
                move |seed| {
                    let mut simulation = Simulation::new(seed, 1e12 * claim, 1e12);
                    simulation.run(seconds);
                    simulation
                }
            };
            let (two, four) = (on_pace(2.0, run(2.0 * MINUTE)), on_pace(2.0, run(4.0 * MINUTE)));
            assert!(two >= at_least && four >= 90, "claim x{claim}: {two} of 100, later {four}");
        }
    }

    /// As firmware does that takes a new target only with the next job.
    #[test]
    fn a_slow_reaction_does_not_make_it_swing() {
        for claim in [1e-2, 1.0, 1e2, 1e4] {
            let on_pace = on_pace(2.0, |seed| {
                let mut simulation = Simulation::new(seed, 1e12 * claim, 1e12);
                simulation.lag = 30.0;
                simulation.run(5.0 * MINUTE);
                assert!(simulation.shares < 6_000, "{} shares", simulation.shares);
                simulation
            });
            assert!(on_pace >= 90, "claim x{claim}: {on_pace} of 100");
        }
    }

    #[test]
    fn a_flood_is_stopped_at_once() {
        let mut simulation = Simulation::new(1, 1e10, 1e12);
        simulation.run(3.0);
        assert!(simulation.retargets >= 1);
        assert!(simulation.shares < 40, "{} shares", simulation.shares);
    }

    #[test]
    fn a_steady_miner_is_left_alone() {
        for seed in 0..10 {
            let mut simulation = Simulation::new(seed, 1e12, 1e12);
            simulation.run(24.0 * HOUR);
            assert!(simulation.retargets <= 24, "{} retargets", simulation.retargets);
            let per_minute = f64::from(simulation.shares) / (24.0 * MINUTE);
            assert!((10.5..13.5).contains(&per_minute), "{per_minute} shares a minute");
        }
    }

    #[test]
    fn a_change_is_followed_within_minutes() {
        for (factor, minutes) in [(4.0, 2.0), (100.0, 2.0), (0.25, 8.0), (0.01, 8.0)] {
            let on_pace = on_pace(1.7, |seed| {
                let mut simulation = Simulation::new(seed, 1e12, 1e12);
                simulation.run(HOUR);
                simulation.hashrate *= factor;
                simulation.run(minutes * MINUTE);
                simulation
            });
            assert!(on_pace >= 85, "x{factor}: {on_pace} of 100");
        }
    }

    #[test]
    fn a_miner_that_comes_back_does_not_flood() {
        for seed in 0..20 {
            let mut simulation = Simulation::new(seed, 1e12, 1e12);
            simulation.run(HOUR);
            simulation.hashrate = 1e-9;
            simulation.run(HOUR);
            simulation.hashrate = 1e12;
            assert!(simulation.pace() > 4.0 * WANTED, "it was looked for");
            assert!(simulation.pace() < 2.0 * SLOWDOWN * SILENCE * WANTED);
            simulation.shares = 0;
            simulation.run(MINUTE);
            assert!(simulation.shares < 100, "{} shares", simulation.shares);
            simulation.run(2.0 * MINUTE);
            assert!((5.0..25.0).contains(&simulation.pace()), "{}", simulation.pace());
        }
    }

    #[test]
    fn targets_are_never_easier_than_the_client_takes() {
        let max_target = Target::for_hashrate(hashrate(1e12), WANTED);
        let mut simulation = Simulation::new(3, 1e9, 1e9);
        simulation.vardiff = Vardiff::new(Moment(0), hashrate(1e9), max_target, Options::default());
        simulation.working_on = max_target;
        simulation.run(100.0 * HOUR);
        assert_eq!((simulation.vardiff.target(), simulation.retargets), (max_target, 0));
        // 72 shares come at the pace that suits the estimate, so it holds all the same.
        assert!((40..110).contains(&simulation.shares), "{} shares", simulation.shares);
        let estimate = simulation.vardiff.estimate().get();
        assert!((2e8..5e9).contains(&estimate), "{estimate:e}");
    }

    /// A miner whose shares an operator makes a thousand times rarer than they would be.
    fn held_back(seed: u64, claimed: f64) -> Simulation {
        let mut simulation = Simulation::new(seed, claimed, 1e12);
        simulation.vardiff.set_easiest(Target::for_hashrate(hashrate(1e15), WANTED));
        simulation.working_on = simulation.vardiff.target();
        simulation
    }

    #[test]
    fn an_operators_floor_does_not_spoil_the_estimate() {
        let floor = Target::for_hashrate(hashrate(1e15), WANTED);
        let mut right = 0;
        for seed in 0..100 {
            let mut simulation = held_back(seed, 1e12);
            for _ in 0..24 {
                simulation.run(HOUR);
                assert_eq!(simulation.vardiff.target(), floor);
                right += u32::from((2.5e11..4e12).contains(&simulation.vardiff.estimate().get()));
            }
        }
        assert!(right > 2_300, "{right} of 2400");
        // one whose claim is far from true is found out by and by
        let mut simulation = held_back(1, 1e14);
        simulation.run(24.0 * HOUR);
        let estimate = simulation.vardiff.estimate().get();
        assert!((2e11..1e13).contains(&estimate), "{estimate:e}");
    }

    #[test]
    fn a_share_that_comes_once_in_days_is_no_miracle() {
        let mut right = 0;
        for seed in 0..10 {
            let mut simulation = Simulation::new(seed, 1e12, 1e12);
            simulation.vardiff.set_easiest(Target::for_hashrate(hashrate(1e17), WANTED));
            simulation.working_on = simulation.vardiff.target();
            for _ in 0..100 {
                simulation.run(10.0 * HOUR);
                right += u32::from((1e11..1e13).contains(&simulation.vardiff.estimate().get()));
            }
        }
        // four shares where 0.3 were to be expected: that happens too, and takes as long to be seen through
        assert!(right > 900, "{right} of 1000");
    }

    #[test]
    fn a_floor_that_goes_leaves_the_wanted_pace() {
        let on_pace = on_pace(2.0, |seed| {
            let mut simulation = held_back(seed, 1e12);
            simulation.run(10.0 * HOUR);
            simulation.vardiff.set_easiest(Target::MAX);
            simulation.announced.push_back((simulation.now, simulation.vardiff.target()));
            simulation.run(10.0 * MINUTE);
            simulation
        });
        assert!(on_pace >= 90, "{on_pace} of 100");
    }

    #[test]
    fn another_pace_keeps_the_estimate() {
        for pace in [WANTED / 4.0, WANTED * 4.0] {
            let options = Options { shares_per_minute: pace, ..Options::default() };
            let on_pace = |simulation: &Simulation| {
                let ratio = simulation.pace() / pace;
                (0.5..2.0).contains(&ratio)
            };
            let mut right = (0, 0);
            for seed in 0..100 {
                let mut simulation = Simulation::new(seed, 1e12, 1e12);
                simulation.run(HOUR);
                let (estimate, target) = (simulation.vardiff.estimate(), simulation.vardiff.target());
                simulation.vardiff.set_options(options);
                assert_eq!(simulation.vardiff.estimate(), estimate);
                let change = target.hashes_per_share() / simulation.vardiff.target().hashes_per_share();
                assert!((change * WANTED / pace - 1.0).abs() < 1e-6, "{change}");
                simulation
                    .announced
                    .push_back((simulation.now + simulation.lag, simulation.vardiff.target()));
                right.0 += u32::from(on_pace(&simulation));
                // it is not taken for news of the miner either
                simulation.run(10.0 * MINUTE);
                right.1 += u32::from(on_pace(&simulation));
            }
            assert!(right.0 > 95 && right.1 > 95, "{pace}: {right:?} of 100");
        }
    }

    #[test]
    fn a_floor_is_no_ceiling() {
        let mut simulation = held_back(1, 1e12);
        simulation.hashrate = 1e17;
        simulation.run(10.0 * MINUTE);
        assert!((6.0..24.0).contains(&simulation.pace()), "{}", simulation.pace());
    }

    #[test]
    fn the_difficulty_of_the_shares_makes_no_difference() {
        let mut vardiff = Vardiff::new(Moment(0), hashrate(1e12), Target::MAX, Options::default());
        let at_wanted_pace = vardiff.target().difficulty();
        // A quarter hour's work, proved by shares four times as easy.
        for minute in 1..=15 {
            for _ in 0..4 * 12 {
                vardiff.on_share(Difficulty(at_wanted_pace.0 / 4.0));
            }
            assert_eq!(vardiff.poll(Moment(0) + Duration::from_secs(60 * minute)), None);
        }
        assert_eq!(vardiff.estimate(), hashrate(1e12));
    }

    #[test]
    fn stragglers_from_before_a_change_are_not_misread() {
        let mut vardiff = Vardiff::new(Moment(0), hashrate(1e10), Target::MAX, Options::default());
        let light = vardiff.target().difficulty();
        for _ in 0..20 {
            vardiff.on_share(light);
        }
        assert!(vardiff.poll(Moment(1_000_000)).is_some());
        for _ in 0..4 {
            vardiff.on_share(light);
        }
        assert_eq!(vardiff.poll(Moment(1_000_000) + CHECK_HURRIED), None);
    }

    #[test]
    fn checks_come_when_they_are_due() {
        let mut vardiff = Vardiff::new(Moment(7), hashrate(1e12), Target::MAX, Options::default());
        let due = Moment(7) + CHECK_HURRIED;
        assert_eq!(vardiff.next_check(), due);
        assert_eq!(vardiff.poll(Moment(due.0 - 1)), None);
        assert_eq!(vardiff.next_check(), due);
        vardiff.poll(Moment(7) + HURRY);
        assert_eq!(vardiff.next_check(), Moment(7) + HURRY + CHECK_SETTLED);

        for _ in 0..24 {
            assert!(vardiff.next_check() > Moment(7) + HURRY);
            vardiff.on_share(vardiff.target().difficulty());
        }
        assert!(vardiff.next_check() <= Moment(7) + HURRY, "a flood");
    }

    #[test]
    fn claims() {
        let target = |hashrate| Target::for_hashrate(hashrate, WANTED);
        let mut vardiff = Vardiff::new(Moment(0), hashrate(0.0), Target::MAX, Options::default());
        assert_eq!(vardiff.target(), target(Options::default().slowest), "no claim");

        let fast = Some(target(hashrate(1e15)));
        assert_eq!(vardiff.update(Moment(1), hashrate(1e15), Target::MAX), fast);
        assert_eq!(vardiff.update(Moment(2), hashrate(1e15), Target::MAX), None, "no news");
        assert_eq!(vardiff.update(Moment(3), hashrate(1.1e15), Target::MAX), None, "agrees");
        assert_eq!(
            vardiff.update(Moment(4), hashrate(f64::from(f32::MAX)), Target::MAX),
            Some(target(FASTEST))
        );

        let max_target = target(hashrate(1e21 * 2.0));
        assert_eq!(vardiff.update(Moment(5), hashrate(1e12), max_target), Some(max_target));
        assert_eq!(vardiff.update(Moment(6), hashrate(1e12), Target::MAX), Some(target(hashrate(1e12))));
    }

    #[test]
    fn a_claim_repeated_does_not_undo_what_was_measured() {
        let mut simulation = Simulation::new(4, 1e14, 1e12);
        simulation.run(10.0 * MINUTE);
        let measured = simulation.vardiff.target();
        let now = simulation.moment();
        assert_eq!(simulation.vardiff.update(now, hashrate(1e14), Target::MAX), None);
        assert_eq!(simulation.vardiff.target(), measured);
        let new = simulation.vardiff.update(now, hashrate(1e13), Target::MAX);
        assert_eq!(new, Some(Target::for_hashrate(hashrate(1e13), WANTED)));
        assert_eq!(simulation.vardiff.next_check(), now + CHECK_HURRIED);
    }
}
