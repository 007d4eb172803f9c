package sops

// combine recovers the secret of Shamir's sharing over GF(2^8), as HashiCorp
// Vault and sops share it: byte by byte, each share ending with its x.
func combine(shares [][]byte) ([]byte, error) {
	n := len(shares[0]) - 1
	if n < 1 {
		return nil, errorf(Malformed, "a share of the data key is too short")
	}
	seen := map[byte]bool{}
	for _, s := range shares {
		if len(s) != n+1 || s[n] == 0 || seen[s[n]] {
			return nil, errorf(Malformed, "the shares of the data key do not belong together")
		}
		seen[s[n]] = true
	}
	secret := make([]byte, n)
	for i, si := range shares {
		// Lagrange's basis at 0; subtraction is addition, which is xor.
		basis := byte(1)
		for j, sj := range shares {
			if i != j {
				basis = multiply(basis, multiply(sj[n], inverse(si[n]^sj[n])))
			}
		}
		for b := range secret {
			secret[b] ^= multiply(si[b], basis)
		}
	}
	return secret, nil
}

// multiply multiplies in GF(2^8) with AES' polynomial, in constant time.
func multiply(a, b byte) (product byte) {
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return product
}

// inverse is a^254, for a^255 is 1.
func inverse(a byte) byte {
	result := byte(1)
	for range 254 {
		result = multiply(result, a)
	}
	return result
}
