package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.LabHold.Outcome;
import io.r2lock.LabTrouble.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Hand-written histories, in milliseconds. */
class HistoryCheckerTest {

    private final List<LabHold> holds = new ArrayList<>();
    private final List<LabTrouble> troubles = new ArrayList<>();

    private static long nanos(long millis) {
        return millis * 1_000_000;
    }

    private void hold(String process, int backend, boolean exclusive, long begin, long end, Outcome outcome) {
        String id = Integer.toString(holds.size());
        holds.add(new LabHold(process, id, Set.of(1L), exclusive, List.of(backend), nanos(begin), nanos(end), outcome));
    }

    private void exclusive(String process, int backend, long begin, long end, Outcome outcome) {
        hold(process, backend, true, begin, end, outcome);
    }

    private void trouble(Kind kind, String target, long from, long to) {
        troubles.add(new LabTrouble(kind, target, nanos(from), nanos(to)));
    }

    private HistoryChecker.Verdict check() {
        return HistoryChecker.check(new LabHistory(holds, troubles));
    }

    private void assertFine() {
        assertThat(check().violations()).isEmpty();
    }

    private void assertViolation(String beginning) {
        assertThat(check().violations()).hasSize(1).allMatch(violation -> violation.startsWith(beginning));
    }

    @Test
    void holdsInTurnAreFine_alsoWithinOneNanosecond() {
        exclusive("a", 1, 0, 10, Outcome.RELEASED);
        exclusive("b", 2, 10, 20, Outcome.RELEASED);
        assertFine();
    }

    @Test
    void overlapIsAViolation_whateverTheCallerWasTold() {
        for (Outcome outcome : Outcome.values()) {
            holds.clear();
            exclusive("a", 1, 0, 11, outcome);
            exclusive("b", 2, 10, 20, Outcome.RELEASED);
            assertViolation("overlap of 1 ms on key 1");
        }
    }

    @Test
    void overlapInsideOneProcess_andAroundAShortHold_isAViolation() {
        exclusive("a", 1, 0, 100, Outcome.RELEASED);
        exclusive("a", 2, 20, 30, Outcome.RELEASED);
        exclusive("a", 3, 40, 50, Outcome.RELEASED);
        assertThat(check().violations()).hasSize(2);
    }

    @Test
    void sharedHoldsOverlap_butNotWithAnExclusiveOne() {
        hold("a", 1, false, 0, 50, Outcome.RELEASED);
        hold("b", 2, false, 10, 60, Outcome.RELEASED);
        assertFine();
        exclusive("c", 3, 55, 70, Outcome.RELEASED);
        assertViolation("overlap of 5 ms");
    }

    @Test
    void onlyCommonKeysConflict() {
        exclusive("a", 1, 0, 50, Outcome.RELEASED);
        holds.add(new LabHold("b", "x", Set.of(2L, 3L), true, List.of(2), nanos(0), nanos(50), Outcome.RELEASED));
        assertFine();
        holds.add(new LabHold("c", "y", Set.of(3L, 4L), true, List.of(3), nanos(40), nanos(60), Outcome.RELEASED));
        assertViolation("overlap of 10 ms on key 3");
    }

    @Test
    void terminatedBackend_excusesAndMeasuresAShortOverlap() {
        trouble(Kind.TERMINATE, "1", 100, 102);
        trouble(Kind.PAUSE, "a", 131, 3_000);
        trouble(Kind.CUT, "a", 131, 3_000);
        exclusive("a", 1, 0, 130, Outcome.LOST);
        exclusive("b", 2, 105, 200, Outcome.RELEASED);
        HistoryChecker.Verdict verdict = check();
        assertThat(verdict.violations()).isEmpty();
        assertThat(verdict.windows().get("TERMINATE"))
                .hasToString("1 times, at most 25 ms")
                .satisfies(times -> assertThat(times.count()).isOne());
        assertThat(verdict.told().get("TERMINATE")).hasToString("1 times, at most 30 ms");
        assertThat(verdict.losses()).isOne();
        assertThat(verdict.table()).contains("2 holds, 0 violations", "25 ms", "30 ms");
    }

    @Test
    void terminatedBackend_excusesNoOtherHold_noEarlierOverlap_andNoSuccess() {
        trouble(Kind.TERMINATE, "3", 100, 102);
        exclusive("a", 1, 0, 130, Outcome.LOST);
        exclusive("b", 2, 105, 200, Outcome.RELEASED);
        assertViolation("overlap of 25 ms");

        troubles.clear();
        trouble(Kind.TERMINATE, "1", 110, 112);
        assertViolation("overlap of 25 ms");

        troubles.clear();
        holds.clear();
        trouble(Kind.TERMINATE, "1", 100, 102);
        exclusive("a", 1, 0, 130, Outcome.RELEASED);
        exclusive("b", 2, 105, 200, Outcome.RELEASED);
        assertThat(check().violations()).hasSize(2).anyMatch(violation -> violation.startsWith("told success after"));
    }

    @Test
    void workThatGoesOnTooLong_isAViolation_withAndWithoutAnOverlap() {
        for (Kind kind : List.of(Kind.TERMINATE, Kind.STOP_SERVER, Kind.CRASH_SERVER, Kind.RESET)) {
            troubles.clear();
            holds.clear();
            trouble(kind, kind == Kind.TERMINATE ? "1" : "a", 100, 110);
            exclusive("a", 1, 0, 1_111, Outcome.LOST);
            assertViolation("not told of " + kind + ": work went on for 1011 ms");
            exclusive("b", 2, 200, 1_200, Outcome.RELEASED);
            assertThat(check().violations()).hasSize(2).anyMatch(violation -> violation.startsWith("overlap"));
        }
    }

    @Test
    void pausedProcess_isToldWhenItRunsAgain_ifItsBackendDied() {
        trouble(Kind.PAUSE, "a", 50, 3_000);
        exclusive("a", 1, 0, 3_020, Outcome.LOST);
        exclusive("b", 2, 105, 200, Outcome.RELEASED);
        assertViolation("overlap of 95 ms");

        trouble(Kind.TERMINATE, "1", 100, 102);
        assertFine();
        assertThat(check().windows()).containsOnlyKeys("TERMINATE while paused or cut off");

        exclusive("a", 1, 3_500, 4_001, Outcome.LOST);
        exclusive("b", 2, 3_990, 4_100, Outcome.RELEASED);
        assertViolation("overlap of 11 ms");
    }

    @Test
    void pausedProcess_mayLearnOfItsGrantWhenAnotherHasGotTheLock() {
        trouble(Kind.PAUSE, "a", 50, 3_000);
        trouble(Kind.TERMINATE, "1", 100, 102);
        exclusive("b", 2, 105, 5_000, Outcome.RELEASED);
        exclusive("a", 1, 3_001, 3_010, Outcome.LOST);
        assertFine();
    }

    @Test
    void cutAndStall_excuseNothing_andMustBeNoticed() {
        for (Kind kind : List.of(Kind.CUT, Kind.STALL)) {
            troubles.clear();
            holds.clear();
            trouble(kind, "a", 100, 15_000);
            exclusive("a", 1, 0, 5_100, Outcome.LOST);
            exclusive("c", 3, 0, 15_000, Outcome.RELEASED);
            holds.set(1, new LabHold("c", "c", Set.of(9L), true, List.of(3), 0, nanos(15_000), Outcome.RELEASED));
            assertFine();
            assertThat(check().told().get(kind.name())).hasToString("1 times, at most 5000 ms");

            exclusive("b", 2, 5_000, 5_200, Outcome.RELEASED);
            assertViolation("overlap of 100 ms");

            holds.clear();
            exclusive("a", 1, 0, 6_101, Outcome.LOST);
            assertViolation("not told of " + kind);
        }
    }

    @Test
    void shortCut_mayBeLivedThrough() {
        trouble(Kind.CUT, "a", 100, 3_000);
        exclusive("a", 1, 0, 12_000, Outcome.RELEASED);
        assertFine();
    }

    @Test
    void backendTerminatedDuringACut_isNoticedByTheSilence() {
        trouble(Kind.CUT, "a", 100, 15_000);
        trouble(Kind.TERMINATE, "1", 1_000, 1_002);
        exclusive("a", 1, 0, 5_500, Outcome.LOST);
        exclusive("b", 2, 1_010, 5_400, Outcome.RELEASED);
        assertFine();
        holds.set(0, holds.get(0).endedAt(nanos(6_200)));
        assertThat(check().violations()).hasSize(3);
    }

    @Test
    void killedProcess_endsItsHoldsWithTheKill() {
        trouble(Kind.KILL, "a", 100, 120);
        holds.add(new LabHold("a", "x", Set.of(1L), true, List.of(1), 0, Long.MAX_VALUE, Outcome.NONE));
        exclusive("b", 2, 100, 200, Outcome.RELEASED);
        assertFine();
        exclusive("b", 3, 300, 400, Outcome.RELEASED);
        holds.set(1, holds.get(1).endedAt(nanos(150)));
        assertFine();
        holds.set(1, new LabHold("b", "y", Set.of(1L), true, List.of(2), nanos(99), nanos(200), Outcome.RELEASED));
        assertViolation("overlap of 1 ms");
    }

    @Test
    void holdThatNeverEnds_isAViolation_unlessItsProcessWasKilled() {
        trouble(Kind.KILL, "b", 100, 120);
        holds.add(new LabHold("a", "x", Set.of(1L), true, List.of(1), 0, Long.MAX_VALUE, Outcome.NONE));
        assertViolation("never ended");
    }

    @Test
    void logIsReadAsItWasWritten_lastEndCounts() {
        List<LabHold> read = LabHistory.holds(
                "p",
                Stream.of(
                                "5 ready",
                                "10 begin 1 exclusive 3,4 77",
                                "20 end 1",
                                "21 end 1",
                                "22 told 1 lost",
                                "30 begin 2 shared 3 78",
                                "40 refused LockTimeoutException")
                        .toList());
        assertThat(read)
                .containsExactly(
                        new LabHold("p", "1", Set.of(3L, 4L), true, List.of(77), 10, 21, Outcome.LOST),
                        new LabHold("p", "2", Set.of(3L), false, List.of(78), 30, Long.MAX_VALUE, Outcome.NONE));
        assertThat(LabTrouble.parse("CUT a 1 2")).isEqualTo(new LabTrouble(Kind.CUT, "a", 1, 2));
        assertThat(new LabTrouble(Kind.CUT, "a", 1, 2).line()).isEqualTo("CUT a 1 2");
    }

    @Test
    void aSharedBackendTakesAllItsHoldsWithIt_andEachMustBeTold() {
        for (long told : new long[] {50, 4_000}) {
            holds.clear();
            troubles.clear();
            trouble(Kind.TERMINATE, "7", 20, 30);
            holds.add(new LabHold("a", "x", Set.of(1L), true, List.of(7), nanos(0), nanos(40), Outcome.LOST));
            holds.add(new LabHold("a", "y", Set.of(2L), true, List.of(7), nanos(0), nanos(told), Outcome.LOST));
            holds.add(new LabHold("b", "z", Set.of(2L), true, List.of(8), nanos(45), nanos(60), Outcome.RELEASED));
            if (told == 50) {
                assertFine();
                assertThat(check().losses()).isEqualTo(2);
                assertThat(check().sharing()).isEqualTo(1);
            } else {
                assertThat(check().violations())
                        .hasSize(2)
                        .anyMatch(violation -> violation.startsWith("not told of TERMINATE"))
                        .anyMatch(violation -> violation.startsWith("overlap of"));
            }
        }
    }

    @Test
    void aHoldOnSeveralBackends_isLostWithEachOfThem() {
        trouble(Kind.TERMINATE, "8", 20, 30);
        holds.add(new LabHold("a", "x", Set.of(1L, 2L), true, List.of(7, 8), nanos(0), nanos(40), Outcome.LOST));
        holds.add(new LabHold("b", "y", Set.of(2L), true, List.of(9), nanos(35), nanos(60), Outcome.RELEASED));
        assertFine();
        assertThat(check().losses()).isEqualTo(1);
    }

    /** Its connection was dead already when it was handed over, and neither process knew. */
    @Test
    void aHoldThatWasHandedOver_mayHaveEndedWell_justAfterItsBackend() {
        trouble(Kind.TERMINATE, "7", 20, 30);
        exclusive("a", 7, 0, 40, Outcome.ENDED);
        exclusive("a", 7, 40, 60, Outcome.LOST);
        exclusive("b", 8, 35, 70, Outcome.RELEASED);
        assertFine();
        exclusive("a", 7, 1_500, 1_600, Outcome.ENDED);
        exclusive("b", 8, 1_550, 1_700, Outcome.RELEASED);
        assertViolation("overlap of 50 ms");
    }
}
