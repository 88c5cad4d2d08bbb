package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.LabHold.Outcome;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Hand-written histories with planted tokens. */
class TokenCheckerTest {

    private final List<LabHold> holds = new ArrayList<>();
    private final Map<String, Long> tokens = new HashMap<>();

    private void hold(boolean exclusive, Set<Long> keys, long begin, long end, long token) {
        String id = Integer.toString(holds.size());
        holds.add(new LabHold("a", id, keys, exclusive, List.of(1), begin, end, Outcome.RELEASED));
        if (token > 0) {
            tokens.put("a/" + id, token);
        }
    }

    private void writer(long begin, long end, long token) {
        hold(true, Set.of(1L), begin, end, token);
    }

    private void reader(long begin, long end, long token) {
        hold(false, Set.of(1L), begin, end, token);
    }

    private TokenChecker.Verdict check() {
        return TokenChecker.check(new LabHistory(holds, List.of()), tokens);
    }

    private void assertViolation(String beginning) {
        assertThat(check().violations()).hasSize(1).allMatch(violation -> violation.startsWith(beginning));
    }

    @Test
    void growingTokensAreFine_withGapsAndHoldsWithout() {
        writer(0, 10, 5);
        writer(10, 20, 0);
        writer(20, 30, 9);
        TokenChecker.Verdict verdict = check();
        assertThat(verdict.violations()).isEmpty();
        assertThat(verdict.tokens()).isEqualTo(2);
        assertThat(verdict.ordered()).isEqualTo(1);
    }

    @Test
    void aSmallerTokenLater_isAViolation_alsoBehindOthers() {
        writer(0, 10, 728);
        writer(20, 30, 727);
        assertViolation("token 727 after 728 on key 1");
        holds.clear();
        tokens.clear();
        writer(0, 10, 728);
        writer(20, 30, 900);
        writer(40, 50, 800);
        assertViolation("token 800 after 900 on key 1");
    }

    @Test
    void theSameTokenTwice_isAViolation_alsoWhereHoldsOverlap() {
        writer(0, 30, 7);
        writer(20, 40, 7);
        assertViolation("token 7 twice on key 1");
    }

    @Test
    void overlappingHolds_haveNoOrder() {
        writer(0, 30, 8);
        writer(20, 40, 7);
        assertThat(check().violations()).isEmpty();
    }

    @Test
    void readersMayHaveAnyTokens_betweenThoseOfTheWriters() {
        writer(0, 10, 5);
        reader(10, 30, 8);
        reader(12, 14, 7);
        reader(15, 20, 7);
        writer(30, 40, 9);
        assertThat(check().violations()).isEmpty();
        reader(50, 60, 8);
        assertViolation("token 8 after 9");
    }

    @Test
    void aWriterAfterReaders_needsTheLargestToken() {
        reader(0, 10, 8);
        reader(0, 20, 6);
        writer(30, 40, 7);
        assertViolation("token 7 after 8");
    }

    @Test
    void keysAreJudgedOneByOne() {
        hold(true, Set.of(1L), 0, 10, 9);
        hold(true, Set.of(2L), 20, 30, 3);
        assertThat(check().violations()).isEmpty();
        hold(true, Set.of(1L, 2L), 40, 50, 5);
        assertViolation("token 5 after 9 on key 1");
    }
}
