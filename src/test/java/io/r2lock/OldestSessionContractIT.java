package io.r2lock;

class OldestSessionContractIT extends SessionContract {

    OldestSessionContractIT() {
        super(TestServer.oldest());
    }
}
