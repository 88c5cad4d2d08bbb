package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class LockKeyTest {

    private static final String BEYOND_BMP = "été \uD83D\uDD12";

    /** Computed by Python's hashlib and by PostgreSQL: a change here breaks every mixed fleet. */
    static Stream<Arguments> goldenValues() {
        return Stream.of(
                Arguments.of(LockKey.of(7), "bigint 7", 7L),
                Arguments.of(LockKey.of(Long.MIN_VALUE), "bigint -9223372036854775808", Long.MIN_VALUE),
                Arguments.of(LockKey.of(1, 2), "pair (1, 2)", 4294967298L),
                Arguments.of(LockKey.of(-1, -2), "pair (-1, -2)", -2L),
                Arguments.of(LockKey.of(0, -1), "pair (0, -1)", 4294967295L),
                golden(LockKey.named("order", "42"), "order/42", 8250270489777910516L),
                golden(LockKey.named("a", "bc"), "a/bc", -449055206200042786L),
                golden(LockKey.named("ab", "c"), "ab/c", 4451407988048556104L),
                golden(LockKey.named("", ""), "/", -2360060374177730597L),
                golden(LockKey.named("commande", BEYOND_BMP), "commande/" + BEYOND_BMP, -4892096954159970708L),
                golden(LockKey.md5("nightly"), "md5 'nightly'", 784550578118357280L),
                golden(LockKey.md5(""), "md5 ''", -3162216497309240828L),
                golden(LockKey.md5(BEYOND_BMP), "md5 '" + BEYOND_BMP + "'", -3639248314138588317L),
                golden(LockKey.hashtext("job"), "hashtext 'job'", -168112706L),
                golden(LockKey.hashtext(""), "hashtext ''", -1477818771L),
                golden(LockKey.hashtext("twelve bytes"), "hashtext 'twelve bytes'", 652846557L),
                golden(LockKey.hashtextExtended("job", 0), "hashtextextended 'job'", 2037922322055876030L),
                golden(LockKey.hashtextExtended("job", 42), "hashtextextended seed 42 'job'", 1472403002632457895L),
                golden(LockKey.hashtextExtended("job", -1), "hashtextextended seed -1 'job'", -3791058912848348559L));
    }

    private static Arguments golden(LockKey key, String name, long value) {
        return Arguments.of(key, name + " (bigint " + value + ")", value);
    }

    @ParameterizedTest
    @MethodSource("goldenValues")
    void aRecipeKeepsItsNumberAndShowsIt(LockKey key, String shown, long value) {
        assertThat(key.value()).isEqualTo(value);
        assertThat(key).hasToString(shown);
    }

    /** Computed by Python's hashlib: processes of different versions must agree about the slots of a semaphore. */
    @Test
    void aSlotKeepsItsNumber_andIsNeitherANeighbourNorThatOfTheOtherSpace() {
        assertThat(LockKey.of(7).slot(0)).isEqualTo(LockKey.of(-6873923261012724305L));
        assertThat(LockKey.of(7).slot(1)).isEqualTo(LockKey.of(-6237249444258316577L));
        assertThat(LockKey.of(-1).slot(999)).isEqualTo(LockKey.of(-6185990227090846452L));
        assertThat(LockKey.of(1, 2).slot(0)).isEqualTo(LockKey.of(7594105797795918923L));
        assertThat(LockKey.of(1, 2).slot(0))
                .isNotEqualTo(LockKey.of(4294967298L).slot(0));
    }

    @Test
    void aPairHasItsNumbersInItsHalves() {
        LockKey pair = LockKey.of(-5, Integer.MIN_VALUE);

        assertThat(pair.isPair()).isTrue();
        assertThat(pair.high()).isEqualTo(-5);
        assertThat(pair.low()).isEqualTo(Integer.MIN_VALUE);
        assertThat(LockKey.of(5).isPair()).isFalse();
        assertThat(LockKey.of(-1).high()).isEqualTo(-1);
    }

    @Test
    void equality_countsSpaceAndNumberOnly() {
        LockKey named = LockKey.named("order", "42");
        LockKey sameNumber = LockKey.of(8250270489777910516L);

        assertThat(named).isEqualTo(sameNumber).hasSameHashCodeAs(sameNumber);
        assertThat(named.compareTo(sameNumber)).isZero();
        assertThat(LockKey.of(0, 5)).isEqualTo(LockKey.of(0, 5)).hasSameHashCodeAs(LockKey.of(0, 5));
        assertThat(LockKey.of(0, 5)).isNotEqualTo(LockKey.of(5));
        assertThat(LockKey.of(5)).isNotEqualTo(LockKey.of(6)).isNotEqualTo("bigint 5");
        assertThat(LockKey.of(1, 2)).isNotEqualTo(LockKey.of(2, 1));
    }

    @Test
    void order_isBigintFirstThenSignedNumbers_andAgreesWithEquals() {
        List<LockKey> ordered = List.of(
                LockKey.of(Long.MIN_VALUE),
                LockKey.of(-1),
                LockKey.of(0),
                LockKey.of(5),
                LockKey.of(Long.MAX_VALUE),
                LockKey.of(Integer.MIN_VALUE, 9),
                LockKey.of(-1, 0),
                LockKey.of(0, Integer.MIN_VALUE),
                LockKey.of(0, -1),
                LockKey.of(0, 0),
                LockKey.of(0, 5),
                LockKey.of(Integer.MAX_VALUE, Integer.MAX_VALUE));
        List<LockKey> reversed = new ArrayList<>(ordered);
        Collections.reverse(reversed);

        assertThat(reversed.stream().sorted()).containsExactlyElementsOf(ordered);
        for (LockKey one : ordered) {
            for (LockKey other : ordered) {
                assertThat(Integer.signum(one.compareTo(other))).isEqualTo(-Integer.signum(other.compareTo(one)));
                assertThat(one.compareTo(other) == 0).isEqualTo(one.equals(other));
            }
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "'; DROP TABLE orders; --",
                "*/ SELECT 1; /*",
                "$$ x $$",
                "\"quoted\" `back` \\u0027",
                "<script>alert(1)</script>&amp;",
                "line\nbreak\r\n\u2028\u2029\u0085 2026-01-01 INFO forged",
                "NUL \0, bell \u0007, escape \u001b[31m, delete \u007f",
                "right-to-left \u202E and \u200B nothing, \uFEFF mark, tag \uDB40\uDC41",
                "${jndi:ldap://example.org}"
            })
    void toString_isHarmless(String name) {
        String shown = LockKey.named(name, name).toString() + KeyText.escaped(name);

        assertThat(shown).doesNotContainPattern("[\\p{Cc}\\p{Cf}\\p{Co}\\u2028\\u2029'\"`<>&*$]");
        assertThat(shown).doesNotContain("--").doesNotContain("/*").doesNotContain("*/");
        assertThat(LockKey.md5(name).toString()).matches("md5 '[^'\\v]*' \\(bigint -?\\d+\\)");
    }

    @Test
    void toString_showsWhatItEscaped() {
        assertThat(LockKey.md5("it's\t\\n").toString()).startsWith("md5 'it\\u0027s\\u0009\\u005cn' (bigint ");
        assertThat(LockKey.md5("\uDB40\uDC41").toString()).startsWith("md5 '\\udb40\\udc41' (bigint ");
        assertThat(LockKey.md5("a--b-c").toString()).startsWith("md5 'a-\\u002db-c' (bigint ");
    }

    @Test
    void toString_ofAMegabyte_showsTheBeginningAndTheLength() {
        String megabyte = "x".repeat(1 << 20);
        String shown = "x".repeat(80) + "… (1048576 chars)";

        assertThat(LockKey.named(megabyte, megabyte).toString()).startsWith(shown + "/" + shown + " (bigint ");
        assertThat(LockKey.named(megabyte, megabyte).namespace()).isEqualTo(shown);
        assertThat(LockKey.hashtext(megabyte).toString()).startsWith("hashtext '" + shown + "' (bigint ");
        assertThat(LockKey.md5("x".repeat(100)).toString()).startsWith("md5 '" + "x".repeat(100) + "'");
        assertThat(LockKey.md5("x".repeat(101)).toString()).contains("… (101 chars)");
    }

    @Test
    void toString_neverCutsACodePoint() {
        assertThat(LockKey.md5("x".repeat(79) + "\uD83D\uDD12".repeat(20)).toString())
                .startsWith("md5 '" + "x".repeat(79) + "… (119 chars)'");
    }

    @Test
    void label_hasNoName_andTheNamespaceOnlyIfPlain() {
        assertThat(LockKey.named("order", "Jane Doe").label())
                .isEqualTo("bigint -4501493895622378691 (namespace order)");
        assertThat(LockKey.named("my order", "1").label()).matches("bigint -?\\d+");
        assertThat(LockKey.named("", "1").label()).matches("bigint -?\\d+");
        assertThat(LockKey.named("order\n", "1").label()).matches("bigint -?\\d+");
        assertThat(LockKey.named("n".repeat(64), "1").label()).endsWith(" (namespace " + "n".repeat(64) + ")");
        assertThat(LockKey.named("n".repeat(65), "1").label()).matches("bigint -?\\d+");
        assertThat(LockKey.md5("Jane Doe").label()).matches("bigint -?\\d+");
        assertThat(LockKey.of(1, 2).label()).isEqualTo("pair (1, 2)");
    }

    @Test
    void namespace_isKnownOfNamedKeysOnly() {
        assertThat(LockKey.named("order", "42").namespace()).isEqualTo("order");
        assertThat(LockKey.md5("order").namespace()).isNull();
        assertThat(LockKey.of(1, 2).namespace()).isNull();
    }

    @Test
    void needsUtf8Server_onlyForHashtextOfNonAscii() {
        assertThat(LockKey.hashtext("été").needsUtf8Server()).isTrue();
        assertThat(LockKey.hashtextExtended("\uD83D\uDD12", 1).needsUtf8Server())
                .isTrue();
        assertThat(LockKey.hashtext("ete \u007f").needsUtf8Server()).isFalse();
        assertThat(LockKey.hashtextExtended("", 1).needsUtf8Server()).isFalse();
        assertThat(LockKey.named("été", "été").needsUtf8Server()).isFalse();
        assertThat(LockKey.md5("été").needsUtf8Server()).isFalse();
        assertThat(LockKey.of(7).needsUtf8Server()).isFalse();
    }

    static Stream<Arguments> textArguments() {
        return Stream.of(
                textArgument("namespace", false, text -> LockKey.named(text, "42")),
                textArgument("name", false, text -> LockKey.named("order", text)),
                textArgument("name", false, LockKey::md5),
                textArgument("text", true, LockKey::hashtext),
                textArgument("text", true, text -> LockKey.hashtextExtended(text, 0)));
    }

    private static Arguments textArgument(String argument, boolean postgresText, Function<String, LockKey> recipe) {
        return Arguments.of(argument, postgresText, recipe);
    }

    @ParameterizedTest
    @MethodSource("textArguments")
    @SuppressWarnings("NullAway")
    void aBadText_isRefusedNamingArgumentAndValue(
            String argument, boolean postgresText, Function<String, LockKey> recipe) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> recipe.apply(null))
                .withMessage(argument + " must not be null");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> recipe.apply("a\uD83D b"))
                .withMessage(argument + " must be well-formed, but has an unpaired surrogate at index 1: 'a\\ud83d b'");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> recipe.apply("x".repeat(200) + "\uDD12"))
                .withMessage(argument + " must be well-formed, but has an unpaired surrogate at index 200: '"
                        + "x".repeat(80) + "… (201 chars)'");
        if (postgresText) {
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> recipe.apply("a\0b"))
                    .withMessage(argument + " must not hold NUL, which no PostgreSQL text can, but has it at index 1:"
                            + " 'a\\u0000b'");
        } else {
            assertThat(recipe.apply("a\0b")).isNotEqualTo(recipe.apply("a\0c"));
        }
    }
}
