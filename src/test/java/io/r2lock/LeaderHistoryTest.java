package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;

/** The judge of {@link LeaderIT} can say no. */
class LeaderHistoryTest {

    private static List<LabHold> terms(String... lines) {
        return LabHistory.holds("p", List.of(lines));
    }

    private static final List<LabHold> TWO = terms(
            "10 begin 7 exclusive 1 100",
            "20 end 7",
            "21 told 7 lost",
            "30 begin 9 exclusive 1 101",
            "40 end 9",
            "41 told 9 ended");

    @Test
    void plantedOverlap_isFound_unlessItsTroubleExcusesIt() {
        List<LabHold> terms = terms(
                "10 begin 7 exclusive 1 100",
                "15 begin 8 exclusive 1 101",
                "20 end 7",
                "21 told 7 lost",
                "30 end 8",
                "31 told 8 ended");
        assertThat(HistoryChecker.check(new LabHistory(terms, List.of())).violations())
                .singleElement()
                .asString()
                .startsWith("overlap");
        LabTrouble trouble = new LabTrouble(LabTrouble.Kind.TERMINATE, "100", 12, 13);
        assertThat(HistoryChecker.check(new LabHistory(terms, List.of(trouble))).violations())
                .isEmpty();
    }

    @Test
    void tokenThatDoesNotGrow_isFound() {
        assertThat(LeaderHistory.violations(TWO)).isEmpty();
        assertThat(LeaderHistory.violations(
                        terms("10 begin 9 exclusive 1 100", "20 end 9", "30 begin 7 exclusive 1 101", "40 end 7")))
                .hasSize(1);
    }

    @Test
    void eventThatIsMissing_orWrong_isFound() {
        List<String> right = List.of("ELECTED 7", "LOST 7", "ELECTED 9", "RESIGNED 9");
        assertThat(LeaderHistory.violations(TWO, right, false)).isEmpty();
        assertThat(LeaderHistory.violations(TWO, right.subList(0, 3), false)).hasSize(1);
        assertThat(LeaderHistory.violations(TWO, right.subList(0, 3), true)).isEmpty();
        assertThat(LeaderHistory.violations(TWO, right.subList(0, 1), true)).hasSize(1);
        assertThat(LeaderHistory.violations(TWO, List.of("ELECTED 7", "RESIGNED 7", "ELECTED 9", "RESIGNED 9"), false))
                .hasSize(1);
        assertThat(LeaderHistory.violations(
                        TWO, List.of("ELECTED 7", "LOST 7", "ELECTED 9", "RESIGNED 9", "LOST 9"), false))
                .hasSize(1);
    }
}
