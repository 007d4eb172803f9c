// Package backup is the form of a backup of an instance: one file that holds
// its Git repositories, its images and the objects of its cluster. It writes
// and reads the file, and takes objects out of a cluster and brings them back.
// What is in Git and in the registry is copied by their own packages.
package backup
