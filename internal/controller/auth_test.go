package controller

import "testing"

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		template, url string
		want          bool
	}{
		{"https://git.example.com", "https://git.example.com/a/b", true},
		{"https://git.example.com/", "https://git.example.com/a/b.git", true},
		{"https://git.example.com/a", "https://git.example.com/a", true},
		{"https://git.example.com/a", "https://git.example.com/a/b", true},
		{"https://git.example.com/a", "https://git.example.com/ab/c", false},
		{"https://git.example.com", "https://git.example.com.evil.example/a", false},
		{"https://git.example.com", "https://git.example.com@evil.example/a", false},
		{"https://git.example.com", "https://git.example.com:8443/a", false},
		{"https://git.example.com:8443", "https://git.example.com:8443/a", true},
		{"git@git.example.com:", "git@git.example.com:a/b.git", true},
		{"git@git.example.com:a", "git@git.example.com:a/b.git", true},
		{"git@git.example.com:a", "git@git.example.com:ab/c.git", false},
		{"", "https://git.example.com/a", false},
	} {
		if got := covers(normalURL(c.template), normalURL(c.url)); got != c.want {
			t.Errorf("covers(%q, %q) = %t, want %t", c.template, c.url, got, c.want)
		}
	}
}
